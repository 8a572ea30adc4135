"""`rbmed check PLAN`: everything that can go wrong before anything is computed."""

import argparse
import json

from robustbench_med.plan import load_plan
from robustbench_med.running import prepare


def main(options: argparse.Namespace) -> int:
    """Build all that the plan names and say what would be computed."""
    prepared = prepare(load_plan(options.plan))
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
    return 0
