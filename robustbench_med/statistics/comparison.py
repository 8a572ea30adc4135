"""One group against everyone else."""

import math
from dataclasses import dataclass

import numpy as np

from robustbench_med.statistics.bootstrap import Floats, percentile
from robustbench_med.statistics.estimate import BOOTSTRAP, WILSON, Estimate

NEWCOMBE = "Newcombe"
OWN_LIMITS = "Newcombe on each side's own limits"


@dataclass(frozen=True)
class Difference:
    """First value minus second, with a 95% interval.

    Attributes:
        value: NaN if either is undefined.
        low: Lower limit; NaN where no interval can be estimated.
        high: Upper limit; NaN where no interval can be estimated.
        method: Of the interval; empty where there is none.
    """

    value: float
    low: float
    high: float
    method: str


def difference(
    first: Estimate, second: Estimate, first_draws: Floats, second_draws: Floats
) -> Difference:
    """Compare two groups whose patients were resampled independently.

    Newcombe's hybrid of Wilson intervals for 0/1 values with one case per patient, else the
    bootstrap of the difference. Where one side shows no spread, so that its bootstrap has no
    width, each side's own limits are combined; where a side has none, there is no interval.

    Args:
        first: Of the group.
        second: Of the other patients.
        first_draws: `(draws,)`, resampled values of the group.
        second_draws: `(draws,)`, resampled values of the others.
    """
    value = first.value - second.value
    if math.isnan(first.low) or math.isnan(second.low):
        return Difference(value, math.nan, math.nan, "")
    if first.method == second.method == WILSON:
        return Difference(value, *hybrid(first, second), NEWCOMBE)
    if np.ptp(first_draws) == 0 or np.ptp(second_draws) == 0:
        return Difference(value, *hybrid(first, second), OWN_LIMITS)
    return Difference(value, *percentile(first_draws - second_draws), BOOTSTRAP)


def hybrid(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Limits of a difference from the limits of its two independent sides.

    Source: Newcombe, Stat. Med. 1998, 17:873-890, method 10 (from Wilson limits); Zou and
        Donner, Stat. Med. 2008, 27:1693-1702 (from any limits).
    """
    gap = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return gap - below, gap + above
