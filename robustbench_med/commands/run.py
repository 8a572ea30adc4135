"""`rbmed run PLAN`: carry out a plan, or continue it."""

import argparse
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_med.commands.progress import progress_line
from robustbench_med.plan import load_plan
from robustbench_med.reports.believed import DOUBTED, with_word
from robustbench_med.reports.split import leak
from robustbench_med.reports.wording import estimate, label
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan

WIDTH, NAME, SHOWN = 80, 28, 5


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
    for row in rows.to_dict("records"):
        lines += _told(row)
    lines += [*doubted(run), *reasons(run), *textwrap.wrap(leak(run.manifest), WIDTH)]
    return "\n".join([*lines, f"report: {run.folder / 'report.html'}"])


def _told(row: Mapping[Any, Any]) -> list[str]:
    """One line; two where the probe's name, with its word of doubt, would be cut."""
    name = with_word(str(row["probe"]), str(row["validity"]))
    value = estimate(row["value"], row["low"], row["high"], row["patients"])
    figures = f"{row['metric']:<15.15} {value}"
    if len(name) <= NAME:
        return [f"{name:<{NAME}} {figures}"]
    return [label(name, WIDTH), f"{'':<{NAME}} {figures}"]


def doubted(run: Run) -> list[str]:
    """Where to read on if any attack is not to be believed."""
    words = [word for word in DOUBTED if word in set(run.estimates["validity"])]
    if not words:
        return []
    told = f"attacks that are {' or '.join(words)}: see 'Are the attacks to be believed' in"
    return textwrap.wrap(f"{told} the report", WIDTH)


def reasons(run: Run) -> list[str]:
    """Why answers are missing, the most frequent reasons first, a line each."""
    why = run.failures["probe"] + ": " + run.failures["error"] + ": " + run.failures["message"]
    counts = why.value_counts()
    told = [label(f"{count} x {text}", 2 * WIDTH) for text, count in counts.head(SHOWN).items()]
    lines = [line for text in told for line in textwrap.wrap(text, WIDTH)]
    rest = len(counts) - SHOWN
    return [*lines, f"and {rest} more reasons, in the report"] if rest > 0 else lines
