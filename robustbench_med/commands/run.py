"""`rbmed run PLAN`: carry out a plan, or continue it."""

import argparse
import json
from pathlib import Path

from robustbench_med.commands.progress import progress_line
from robustbench_med.plan import load_plan
from robustbench_med.reports.wording import estimate
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan


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
    kept = ["probe", "metric", "value", "low", "high", "patients", "undefined", "failed", "status"]
    return {
        "run": str(run.folder),
        "state": run.manifest["state"],
        "failures": run.manifest["failures"],
        "report": str(run.folder / "report.html"),
        "estimates": json.loads(rows[kept].to_json(orient="records")),
    }


def overview(run: Run) -> str:
    """Overall figures in at most 80 columns, and where the report is."""
    rows = run.estimates[run.estimates["group"] == "all"]
    cohort = run.manifest["cohort"]
    lines = [
        f"{run.manifest['name']}: {cohort['cases']} cases, {cohort['patients']} patients",
        f"{run.manifest['failures']} answers failed or were not supported",
        f"{'probe':<28} {'metric':<15} estimate [95% interval], patients",
    ]
    lines += [
        f"{row['probe']:<28.28} {row['metric']:<15.15} "
        f"{estimate(row['value'], row['low'], row['high'], row['patients'])}"
        for row in rows.to_dict("records")
    ]
    return "\n".join([*lines, f"report: {run.folder / 'report.html'}"])
