"""`rbmed check PLAN`: everything that can go wrong before anything is computed."""

import argparse
import json

from robustbench_med.cases import Cohort
from robustbench_med.model import Model, TorchModel
from robustbench_med.models import build_network
from robustbench_med.plan import Plan, load_plan
from robustbench_med.preparing import prepare, trained


def main(options: argparse.Namespace) -> int:
    """Build all that the plan names and say what would be computed."""
    plan = load_plan(options.plan)
    prepared = prepare(plan, untrained if awaits_training(plan) else trained)
    patients = len({summary.patient_id for summary in prepared.summaries})
    asked = [
        {"probe": inquiry.probe.name, "kind": inquiry.probe.kind, "cases": len(inquiry.indices)}
        for inquiry in prepared.inquiries
    ]
    if options.json:
        print(json.dumps({"cases": len(prepared.summaries), "patients": patients, "probes": asked}))
        return 0
    print(f"{prepared.plan.name}: {len(prepared.summaries)} cases of {patients} patients")
    for entry in asked:
        print(f"  {entry['kind']:<12} {entry['probe']!s:<40} {entry['cases']} cases")
    print(f"{len(prepared.cells)} cells; nothing was computed")
    if awaits_training(plan):
        print(f"the model has no weights yet; first: rbmed train {options.plan}")
    return 0


def awaits_training(plan: Plan) -> bool:
    """Whether the plan trains a network whose weights are not there yet."""
    weights = plan.model.get("weights")
    if plan.train is None or not isinstance(weights, str):
        return False
    return not (plan.folder / weights).is_file()


def untrained(plan: Plan, cohort: Cohort) -> Model:
    """Build the plan's network with fresh weights, to see whether its shapes fit."""
    return TorchModel(build_network(plan.model, cohort), cohort.task, cohort.bounds)
