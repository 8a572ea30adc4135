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
    misses does not speak against a strong one beside it. Where the task has no decision on a whole
    case, a case speaks against the worst case if it speaks against every attack that raises the
    same objective. A check of what an attack is able to do speaks against the worst case only
    where it speaks against every attack that was asked.

    Args:
        panels: At least one, all in the same ball, on the same cases.
    """
    first = panels[0]
    if len(panels) == 1:
        return replace(first, attack="worst")
    broken = {case for panel in panels for case in panel.broken}
    breakable = broken.union(*(panel.breakable for panel in panels))
    names = dict.fromkeys(check.name for panel in panels for check in panel.checks)
    checks = tuple(_joined(name, panels, broken) for name in names)
    return replace(
        first, attack="worst", broken=tuple(sorted(broken)), breakable=tuple(sorted(breakable)),
        checks=checks,
    )  # fmt: skip


def _joined(name: str, panels: Sequence[Panel], broken: set[int]) -> Check:
    found = [(p, check) for p in panels for check in p.checks if check.name == name]
    made = [(panel, check) for panel, check in found if check.n]
    if not made:
        return not_asked(name, found[0][1].why)
    first, checks = made[0][0], [check for _, check in made]
    if name in OF_THE_SEARCH:
        against = _all(checks)
    elif first.decides:
        against = set().union(*(check.against for check in checks))
    else:
        alike = dict.fromkeys(panel.raises for panel, _ in made)
        against = set().union(*(_all([c for p, c in made if p.raises == same]) for same in alike))
    if name not in ("large_ball", "planted"):  # these ask of another ball, and of another model
        against -= broken
    asked = set().union(*(check.asked for check in checks))
    gravest: Says = "masked" if any(math.isfinite(c.masked_at) for c in checks) else "suspect"
    return counted(
        name, _row(against, first.n), first.limits, checks[0].why, worst=gravest,
        asked=_row(asked, first.n),
    )  # fmt: skip


def _all(checks: Sequence[Check]) -> set[int]:
    """Cases that speak against every attack that was asked of them."""
    asked: set[int] = set().union(*(check.asked for check in checks))
    return {case for case in asked if all(case in c.against for c in checks if case in c.asked)}


def _row(cases: Iterable[int], n: int) -> torch.Tensor:
    row = torch.zeros(n, dtype=torch.bool)
    row[sorted(cases)] = True
    return row
