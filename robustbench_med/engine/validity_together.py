"""What the panels of several attacks in one ball say of the worst that they find together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from robustbench_med.engine.validity import Panel
from robustbench_med.engine.validity_checks import Check, Says, counted, not_asked

OF_THE_SEARCH = ("gradient", "linearity", "large_ball", "planted")
"""Checks of what an attack is able to do: one able attack is enough."""


def together(panels: Sequence[Panel]) -> Panel:
    """Judge the worst case over several attacks by the panels of each.

    A case that one attack breaks is broken, so no other search can add to it: what a weak attack
    misses does not speak against a strong one beside it. A check of what an attack is able to do
    speaks against the worst case only where it speaks against every attack that was asked. Where
    the task has no decision on a whole case, what one attack misses counts, whatever the others do.

    Args:
        panels: At least one, all in the same ball, on the same cases.
    """
    first = panels[0]
    if len(panels) == 1:
        return replace(first, attack="worst")
    broken = {case for panel in panels for case in panel.broken}
    breakable = broken.union(*(panel.breakable for panel in panels))
    checks = tuple(
        _joined(name, [check for panel in panels for check in panel.checks if check.name == name],
                broken, first)
        for name in dict.fromkeys(check.name for panel in panels for check in panel.checks)
    )  # fmt: skip
    return replace(
        first, attack="worst", broken=tuple(sorted(broken)), breakable=tuple(sorted(breakable)),
        checks=checks,
    )  # fmt: skip


def _joined(name: str, checks: Sequence[Check], broken: set[int], panel: Panel) -> Check:
    made = [check for check in checks if check.n]
    if not made:
        return not_asked(name, checks[0].why)
    asked = set().union(*(check.asked for check in made))
    if name in OF_THE_SEARCH:
        against = {case for case in asked
                   if all(case in c.against for c in made if case in c.asked)}  # fmt: skip
    else:
        against = set().union(*(check.against for check in made))
    if name not in ("large_ball", "planted"):  # these ask of another ball, and of another model
        against -= broken
    gravest: Says = "masked" if any(math.isfinite(c.masked_at) for c in made) else "suspect"
    return counted(
        name, _row(against, panel.n), panel.limits, made[0].why, worst=gravest,
        asked=_row(asked, panel.n),
    )  # fmt: skip


def _row(cases: Iterable[int], n: int) -> torch.Tensor:
    row = torch.zeros(n, dtype=torch.bool)
    row[sorted(cases)] = True
    return row
