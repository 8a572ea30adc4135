"""`rbmed levels PLAN`: what severities cost the plan's images, and levels that cost alike."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from robustbench_med.cases import Batch, Cohort
from robustbench_med.commands.progress import progress_line
from robustbench_med.commands.sheet import write_sheet
from robustbench_med.components import build
from robustbench_med.engine.local import OnProgress, Progress
from robustbench_med.errors import CaseError, InputError, RobustbenchMedError
from robustbench_med.levels import TARGETS, Measured, measure
from robustbench_med.plan import Plan, load_plan
from robustbench_med.probes import MOST_SEVERITY, Shift
from robustbench_med.questions import build_cohort

BATCH = 16


def main(options: argparse.Namespace) -> int:
    """Measure every shift of the plan on cases of its cohort; no model is asked."""
    plan = load_plan(options.plan)
    if not plan.shifts:
        raise InputError(f"{options.plan}: names no [[shift]], so there is nothing to measure")
    tell = progress_line(quiet=options.quiet)
    if options.sheet:
        case = next(_first(build_cohort(plan), 1))[0]
        write_sheet(options.sheet, dict(_shifts(plan)), case, plan.seed)
        print(f"{options.sheet}: case {case.case_ids[0]!r}, severities 0 to {MOST_SEVERITY}",
              file=sys.stderr)  # fmt: skip
    found, refused = measured(plan, options.cases, tell)
    if options.json:
        shown = {name: asdict(each) for name, each in found.items()}
        print(json.dumps({"targets": TARGETS, "shifts": shown, "refused": refused}))
    else:
        print("\n".join(_lines(plan, found, refused)))
    return 0


def measured(
    plan: Plan, cases: int, tell: OnProgress
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measure each shift by name; and why others could not be applied to these cases.

    Args:
        plan: With a cohort and shifts.
        cases: How many of the cohort's, the first ones.
        tell: Is told how far it is.
    """
    batches, total = list(_first(build_cohort(plan), cases)), len(plan.shifts)
    found: dict[str, Measured] = {}
    refused: dict[str, str] = {}
    start = time.monotonic()
    for done, (name, shift) in enumerate(_shifts(plan)):
        spent = time.monotonic() - start
        left = spent / done * (total - done) if done else math.nan
        tell(Progress(done, total, done, spent, left, name, "shifts"))
        try:
            found[name] = measure(shift, batches, plan.seed)
        except (RobustbenchMedError, CaseError) as error:
            refused[name] = str(error)
    tell(Progress(total, total, total, time.monotonic() - start, 0.0, "done", "shifts"))
    return found, refused


def _shifts(plan: Plan) -> Iterator[tuple[str, Shift]]:
    for asked in plan.shifts:
        component = asked.component
        yield component.name, build("shifts", component.use, **component.settings)


def _first(cohort: Cohort, cases: int) -> Iterator[Batch]:
    left = cases
    for batch in cohort.batches(BATCH):
        if left <= 0:
            return
        yield batch
        left -= len(batch)


def _losses(name: str, losses: Sequence[float]) -> str:
    return f"{name[:23]:<24}" + "".join(f"{loss:>8.3f}" for loss in losses)


def _lines(plan: Plan, found: dict[str, Measured], refused: dict[str, str]) -> list[str]:
    lines = [
        f"{plan.name}: loss of image quality, 1 - SSIM, mean over cases",
        f"{'severity':<24}" + "".join(f"{v:>8}" for v in range(1, MOST_SEVERITY + 1)),
        _losses("goal", TARGETS),
        *(_losses(name, each.now[1:]) for name, each in found.items()),
        "levels at the goals, and what they lose:",
    ]
    for name, each in found.items():
        for setting, levels in each.levels.items():
            lines.append(f"  {name}: {setting} = [{', '.join(f'{v:g}' for v in levels)}]")
        lines.append("    loses " + ", ".join(f"{loss:.3f}" for loss in each.reached))
    lines += [f"  {name}: not measured: {why}" for name, why in refused.items()]
    return lines
