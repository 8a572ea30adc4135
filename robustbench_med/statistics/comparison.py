"""One group against everyone else, and a value against another of the same patients."""

import math
from dataclasses import dataclass

from scipy import optimize, stats

from robustbench_med.statistics.auc import logit_limits
from robustbench_med.statistics.estimate import BOOTSTRAP, WILSON, Estimate
from robustbench_med.statistics.proportions import score_limits, student

NEWCOMBE = "Newcombe"
CLUSTERED = "Newcombe on Rao-Scott limits"
AREAS = "Newcombe on Obuchowski limits"
Z = float(stats.norm.ppf(0.975))
FARTHEST = 38.0
"""Standard normal deviate beyond which a p-value is 0 in double precision."""


@dataclass(frozen=True)
class Difference:
    """First value minus second, with a 95% interval.

    Attributes:
        value: NaN if either is undefined.
        low: Lower limit; NaN where no interval can be estimated.
        high: Upper limit; NaN where no interval can be estimated.
        method: Of the interval; empty where there is none.
        p: Two-sided, of no difference: the level at which the interval just reaches 0.
    """

    value: float
    low: float
    high: float
    method: str
    p: float

    @property
    def error(self) -> float:
        """Standard error that an interval of this width has, NaN without one."""
        return (self.high - self.low) / (2 * Z)


NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, "", math.nan)


def by_limits(first: Estimate, second: Estimate) -> Difference:
    """Compare two shares, or two areas, of different patients by the limits of each.

    Newcombe's hybrid: of shares from Wilson's limits, of areas from limits on the logit scale.
    The p-value is Student's of the deviate at which the hybrid reaches 0: far out, where
    corrections for many groups look, the normal's tail is too thin for 60 patients.

    Args:
        first: With `freedom`, and `trials` or `logit_error`.
        second: Likewise.

    Returns:
        Without an interval where a side lacks these.

    Source: Newcombe, Stat. Med. 1998, 17:873-890, method 10; from other limits, Zou and Donner,
        Stat. Med. 2008, 27:1693-1702.
    """
    value = first.value - second.value
    if math.isnan(value) or math.isnan(first.freedom) or math.isnan(second.freedom):
        return Difference(value, math.nan, math.nan, "", math.nan)
    simple = first.method == second.method == WILSON
    reach = (Z, Z) if simple else (student(first.freedom), student(second.freedom))
    low, high = _hybrid(first, second, reach)
    return Difference(value, low, high, _method(first, second), _p_value(first, second))


def _method(first: Estimate, second: Estimate) -> str:
    if not math.isnan(first.logit_error):
        return AREAS
    return NEWCOMBE if first.method == second.method == WILSON else CLUSTERED


def _p_value(first: Estimate, second: Estimate) -> float:
    gap = first.value - second.value
    if gap == 0:
        return 1.0
    if gap < 0:
        return _p_value(second, first)
    reached = FARTHEST
    if _hybrid(first, second, (FARTHEST, FARTHEST))[0] < 0:
        reached = optimize.brentq(
            lambda z: _hybrid(first, second, (z, z))[0], 1e-9, FARTHEST, xtol=1e-10
        )
    return float(2 * stats.t.sf(reached, _freedom(first, second)))


def _freedom(first: Estimate, second: Estimate) -> float:
    """Degrees of freedom of the difference, after Welch and Satterthwaite."""
    parts = [_variance(side) for side in (first, second)]
    freedoms = [max(first.freedom, 1), max(second.freedom, 1)]
    below = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return sum(parts) ** 2 / below if below > 0 else min(freedoms)


def _variance(side: Estimate) -> float:
    spread = side.value * (1 - side.value)
    if math.isnan(side.logit_error):
        return spread / side.trials
    return (spread * side.logit_error) ** 2


def _hybrid(first: Estimate, second: Estimate, reach: tuple[float, float]) -> tuple[float, float]:
    gap = first.value - second.value
    (low, high), (lower, upper) = _limits(first, reach[0]), _limits(second, reach[1])
    below = math.hypot(first.value - low, upper - second.value)
    above = math.hypot(high - first.value, second.value - lower)
    return gap - below, gap + above


def _limits(side: Estimate, reach: float) -> tuple[float, float]:
    if math.isnan(side.logit_error):
        return score_limits(side.value, side.trials, reach)
    return logit_limits(side.value, side.logit_error, reach)


def of_means(value: float, low: float, high: float, p: float) -> Difference:
    """A difference with the limits of its studentised resamples."""
    if math.isnan(low) or math.isnan(high):
        return Difference(value, math.nan, math.nan, "", math.nan)
    return Difference(value, low, high, BOOTSTRAP, p)
