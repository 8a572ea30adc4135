"""`rbmed check PLAN`: everything that can go wrong before anything is computed."""

import argparse
import json
import math
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustbench_med.cases import Cohort
from robustbench_med.commands.progress import progress_line
from robustbench_med.model import Model, TorchModel
from robustbench_med.models import build_network
from robustbench_med.operating import calibrating
from robustbench_med.plan import Plan, load_plan
from robustbench_med.preparing import Prepared, audit_splits, prepare, trained
from robustbench_med.reports.policy import load_policy
from robustbench_med.reports.wording import split_called
from robustbench_med.shipped import located
from robustbench_med.sizing import ICC, POWER, SHARE, Sized, lines, out_of_reach, sizes
from robustbench_med.survey import case_table, few_patients, suspicious_subgroups

WIDTH = 80


def main(options: argparse.Namespace) -> int:
    """Build all that the plan names and say what would be computed and what it could show."""
    plan = load_plan(options.plan)
    prepared = prepare(plan, untrained if awaits_training(plan) else trained)
    if plan.calibrate is not None:
        calibrating(plan)
    found = foreseen(prepared, quiet=options.json)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{plan.name}: {found['cases']} cases of {found['patients']} patients")
    for entry in found["probes"]:
        print(f"  {entry['kind']:<12} {entry['probe']!s:<40} {entry['cases']} cases")
    print(f"{len(prepared.cells)} cells; nothing was computed")
    told = [*found["told"], *(f"warning: {line}" for line in found["warnings"])]
    for line in told:
        print(line if len(line) <= WIDTH else textwrap.fill(line, WIDTH, subsequent_indent="  "))
    if awaits_training(plan):
        missing = _missing_start(plan)
        if missing:
            print(f"[train] start {missing} is not there yet; train it first")
        print(f"the model has no weights yet; first: rbmed train {options.plan}")
    return 0


def foreseen(prepared: Prepared, *, quiet: bool) -> dict[str, Any]:
    """What the plan asks, what its groups can show, and what looks wrong, in plain values."""
    plan, summaries = prepared.plan, prepared.summaries
    cases = case_table(summaries, "").to_pandas()
    sized = sizes(cases, plan.subgroups)
    split = audit_splits(prepared, progress_line(quiet=quiet))
    few = few_patients(summaries)
    patients = len({summary.patient_id for summary in summaries})
    rules = load_policy(plan.policy).rules if plan.policy else ()
    unreachable = out_of_reach(sized, patients, rules)
    return {
        "cases": len(summaries),
        "patients": patients,
        "probes": [
            {"probe": inquiry.probe.name, "kind": inquiry.probe.kind, "cases": len(inquiry.indices)}
            for inquiry in prepared.inquiries
        ],
        "groups": [_plain(group) for group in sized.groups],
        "assumed": {
            "share": SHARE, "power": POWER, "icc": ICC, "comparisons": sized.comparisons,
            "cases_per_patient": sized.cases_per_patient,
        },
        "split": split,
        "warnings": [
            *suspicious_subgroups(summaries, plan.subgroups), *([few] if few else []), *unreachable,
        ],
        "told": [*lines(sized), *_told(split)],
    }  # fmt: skip


def _told(split: dict[str, Any] | None) -> list[str]:
    if split is None:
        return []
    from robustbench_med.overlap.audit import lines as audit_lines

    return audit_lines(split, split_called(split["against"]))


def _plain(group: Sized) -> dict[str, object]:
    gap = group.gap if math.isfinite(group.gap) else None
    return {**asdict(group), "gap": gap}


def awaits_training(plan: Plan) -> bool:
    """Whether the plan trains a network whose weights are not there yet."""
    weights = plan.model.get("weights")
    if plan.train is None or not isinstance(weights, str):
        return False
    return not located(weights, plan.folder).is_file()


def _missing_start(plan: Plan) -> str | None:
    """What the training would start from, if it is named and not there."""
    start = (plan.train or {}).get("start")
    return start if isinstance(start, str) and start and not Path(start).is_file() else None


def untrained(plan: Plan, cohort: Cohort) -> Model:
    """Build the plan's network with fresh weights, to see whether its shapes fit."""
    return TorchModel(build_network(plan.model, cohort), cohort.task, cohort.bounds)
