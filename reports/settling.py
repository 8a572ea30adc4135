"""What the patients behind a verdict could show, and how many would settle an open one."""

import math
from typing import Any

from robustbench_med.reports.policy import Rule
from robustbench_med.reports.wording import number

MOST = 100_000
BEST_AT = {"zero": 0.0, "one": 1.0}


def judged_interval(rule: Rule, row: Any) -> tuple[float, float]:  # noqa: ANN401 (a table's row)
    """What is held against the limit: the value, its size, or the harm against the rest."""
    if rule.bound == "margin":
        low, high = row.difference_low, row.difference_high
        if row.better in BEST_AT:
            # | |group - best| - |rest - best| | never exceeds |group - rest|: it can only acquit.
            return -math.inf, max(abs(low), abs(high))
        return (-high, -low) if row.better == "higher" else (low, high)
    if _bounds_size(rule, row):
        nearest = 0.0 if row.low <= 0 <= row.high else min(abs(row.low), abs(row.high))
        return nearest, max(abs(row.low), abs(row.high))
    return row.low, row.high


def settled_by(rule: Rule, row: Any) -> str:  # noqa: ANN401
    """Say about how many patients would settle an undecided rule, if the value stayed as it is.

    The half-width of an interval shrinks with the square root of their number.
    """
    value, low, high = _about(rule, row)
    allowed = _allowed(rule, row)
    outside = not allowed[0] <= value <= allowed[1]
    if rule.bound == "margin" and row.better in BEST_AT and outside:
        return "more patients cannot settle it: such a margin can only be kept, never broken"
    left = _left(value, low, high, allowed)
    if not left > 0:
        return "more patients cannot settle it: the value is on the limit"
    needed = row.patients / left**2
    if needed > MOST:
        return f"more patients cannot settle it: over {MOST:,} would be needed"
    where = " in this group, and as many times more in the rest" if rule.bound == "margin" else ""
    return f"about {math.ceil(needed):,} patients{where} would, if the value stayed as it is"


def found_with(rule: Rule, row: Any) -> str:  # noqa: ANN401
    """Say which difference from the rest these patients would have shown; "" where not known."""
    gap = getattr(row, "detectable", math.nan)
    if rule.bound != "margin" or gap is None or not math.isfinite(gap):
        return ""
    return f"a gap of {number(gap)} would have been found with 80% power"


def _about(rule: Rule, row: Any) -> tuple[float, float, float]:  # noqa: ANN401
    """The number judged and its interval, with their sign."""
    if rule.bound != "margin":
        return row.value, row.low, row.high
    found = (row.difference, row.difference_low, row.difference_high)
    return (-found[0], -found[2], -found[1]) if row.better == "higher" else found


def _allowed(rule: Rule, row: Any) -> tuple[float, float]:  # noqa: ANN401
    """Between which values the rule is kept."""
    if rule.bound == "floor":
        return rule.limit, math.inf
    two_sided = row.better in BEST_AT if rule.bound == "margin" else _bounds_size(rule, row)
    return -rule.limit if two_sided else -math.inf, rule.limit


def _left(value: float, low: float, high: float, allowed: tuple[float, float]) -> float:
    """What share of the interval's half-width leaves it wholly inside or wholly outside."""
    least, most = allowed
    if value < least:
        return _share(least - value, high - value)
    if value > most:
        return _share(value - most, value - low)
    return min(_share(most - value, high - value), _share(value - least, value - low))


def _share(distance: float, reach: float) -> float:
    return distance / reach if reach > 0 else math.inf


def _bounds_size(rule: Rule, row: Any) -> bool:  # noqa: ANN401
    return bool(rule.bound == "ceiling" and row.better == "zero")
