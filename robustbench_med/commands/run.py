"""`rbmed run PLAN`: carry out a plan, or continue it."""

import argparse
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_med.commands.progress import progress_line
from robustbench_med.plan import load_plan
from robustbench_med.reports.believed import DOUBTED
from robustbench_med.reports.split import leak
from robustbench_med.reports.wording import estimate, label
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan

WIDTH, SHOWN = 80, 5


def main(options: argparse.Namespace) -> int:
    """Run the plan, then say what is where and how it went overall."""
    plan = load_plan(options.plan)
    folder: Path = options.out or Path("runs") / plan.name
    run = run_plan(plan, folder, on_progress=progress_line(quiet=options.quiet))
    print(json.dumps(outcome(run)) if options.json else overview(run))
    return 0


def outcome(run: Run) -> dict[str, object]:
    """What a machine wants to know of a finished run."""
    rows = run.estimates[run.estimates["group"] == "all"]
    kept = ["probe", "metric", "value", "low", "high", "patients", "undefined", "failed", "status",
            "validity"]  # fmt: skip
    return {
        "run": str(run.folder),
        "state": run.manifest["state"],
        "failures": run.manifest["failures"],
        "leak": leak(run.manifest),
        "report": str(run.folder / "report.html"),
        "estimates": json.loads(rows[kept].to_json(orient="records")),
    }


def overview(run: Run) -> str:
    """Overall figures in at most 80 columns, and where the report is."""
    rows = run.estimates[run.estimates["group"] == "all"]
    # What is made from a metric stands in the report: here it would hide the metrics.
    rows = rows[~rows["metric"].str.contains(".", regex=False)]
    cohort = run.manifest["cohort"]
    lines = [
        f"{run.manifest['name']}: {cohort['cases']} cases, {cohort['patients']} patients",
        f"{run.manifest['failures']} answers failed or were not supported",
        f"{'probe':<28} {'metric':<15} estimate [95% interval], patients",
    ]
    lines += [
        f"{_named(row):<28.28} {row['metric']:<15.15} "
        f"{estimate(row['value'], row['low'], row['high'], row['patients'])}"
        for row in rows.to_dict("records")
    ]
    lines += [*reasons(run), *textwrap.wrap(leak(run.manifest), WIDTH)]
    return "\n".join([*lines, f"report: {run.folder / 'report.html'}"])


def _named(row: Mapping[Any, Any]) -> str:
    """The probe's name; the word of doubt is never what is cut."""
    word = row["validity"] if row["validity"] in DOUBTED else ""
    return f"{row['probe'][: 25 - len(word)]} ({word})" if word else str(row["probe"])


def reasons(run: Run) -> list[str]:
    """Why answers are missing, the most frequent reasons first, a line each."""
    why = run.failures["probe"] + ": " + run.failures["error"] + ": " + run.failures["message"]
    counts = why.value_counts()
    lines = [label(f"{count} x {text}", WIDTH) for text, count in counts.head(SHOWN).items()]
    rest = len(counts) - SHOWN
    return [*lines, f"and {rest} more reasons, in the report"] if rest > 0 else lines
