"""`rbmed gate RUN POLICY`: hold a run against its rules; the exit code decides."""

import argparse
import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from robustbench_med.errors import IntegrityError
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.gate import Judgement, judge, overall_verdict
from robustbench_med.reports.junit import render_junit
from robustbench_med.reports.policy import load_policy
from robustbench_med.reports.split import leak
from robustbench_med.reports.summary import render_summary
from robustbench_med.reports.terminal import WIDTH, gate_table
from robustbench_med.runfolder import Run, write_text

EXIT_CODES = {"pass": 0, "fail": 1, "undecided": 3}


def main(options: argparse.Namespace) -> int:
    """Judge, print, write JUnit and summary beside the run."""
    run = Run.open(options.run)
    judgements = judge_folder(run, options.policy)
    evidence = Evidence.of(run)
    write_text(run.folder / "junit.xml", render_junit(judgements, evidence))
    _write_step_summary(evidence)
    verdict = overall_verdict(judgements)
    if options.json:
        rows = [asdict(judgement) for judgement in judgements]
        told = {"verdict": verdict, "leak": leak(run.manifest), "rules": rows}
        print(json.dumps(told, default=str))
    else:
        print(gate_table(judgements))
        for line in textwrap.wrap(leak(run.manifest), WIDTH):
            print(line)
    return EXIT_CODES[verdict]


def judge_folder(run: Run, policy: Path) -> Sequence[Judgement]:
    """Judge a run folder by the policy in a file, as of today.

    Raises:
        IntegrityError: If a proof and an attack of this run contradict each other.
    """
    rules = load_policy(policy)
    if run.manifest["state"] == "contradiction":
        raise IntegrityError(f"run {run.folder}: a proof and an attack contradict each other; "
                             "nothing in it can be relied on")  # fmt: skip
    return judge(rules, run, datetime.now(UTC).date())


def _write_step_summary(evidence: Evidence) -> None:
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if target:
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(render_summary(evidence))
