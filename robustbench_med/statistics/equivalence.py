"""Whether a difference is small enough to be accepted: three answers, never two."""

import math
from typing import Literal

from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.proportions import Limits
from robustbench_med.statistics.scores import Better

Verdict = Literal["pass", "fail", "undecided"]


def noninferior(low: float, high: float, margin: float, better: Better) -> Verdict:
    """Say whether the first side is worse than the second by less than a margin.

    Each answer has a one-sided error of half what the interval leaves out: 0.025 for 95%. A
    value that is best near zero or near one may move either way: there the whole interval must
    lie inside the margin, which is enough, and a larger move is `undecided`, since it may be
    for the better.

    Args:
        low: Lower limit of first minus second; NaN where there is none.
        high: Upper limit.
        margin: Largest loss that is accepted, in units of the value, at least 0.
        better: What a good value is.

    Returns:
        `pass`: shown to be worse by less than the margin. `fail`: shown to be worse by more.
        `undecided`: neither, or no interval.

    Raises:
        InputError: If the margin is negative or the limits are swapped.

    Source: FDA, Non-Inferiority Clinical Trials to Establish Effectiveness, 2016 (fixed margin).
    """
    _check(low, high, margin)
    if better in ("zero", "one"):
        return "pass" if -margin < low and high < margin else "undecided"
    least, most = (low, high) if better == "higher" else (-high, -low)
    if least > -margin:
        return "pass"
    return "fail" if most < -margin else "undecided"


def tost(limits_90: Limits, margin: float) -> Verdict:
    """Say whether a difference lies within a margin on both sides, at 5%.

    Args:
        limits_90: 90% limits of the difference: two one-sided tests at 5%, each at full level.
        margin: Half-width of what counts as equal, in units of the value, at least 0.

    Returns:
        `pass`: shown to lie inside. `fail`: shown to lie outside. `undecided`: neither.

    Raises:
        InputError: If the margin is negative or the limits are swapped.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 1987, 15:657-680.
    """
    low, high = limits_90
    _check(low, high, margin)
    if -margin < low and high < margin:
        return "pass"
    return "fail" if low > margin or high < -margin else "undecided"


def tost_p(difference: float, standard_error: float, df: float, margin: float) -> float:
    """Larger p-value of the two one-sided t tests; below 0.05 the two sides are equal enough.

    Args:
        difference: First minus second.
        standard_error: Of it.
        df: Degrees of freedom: patients minus 1 for paired means.
        margin: As in `tost`.

    Returns:
        In [0, 1]; NaN where the standard error is not above 0.

    Raises:
        InputError: If the margin is negative.

    Source: as `tost`.
    """
    _check(difference, difference, margin)
    if not standard_error > 0:
        return math.nan
    not_below = stats.t.sf((difference + margin) / standard_error, df)
    not_above = stats.t.cdf((difference - margin) / standard_error, df)
    return float(max(not_below, not_above))


def _check(low: float, high: float, margin: float) -> None:
    if not 0 <= margin < math.inf:
        raise InputError(f"margin: expected a finite number of at least 0, got {margin}")
    if low > high:
        raise InputError(f"limits: expected low <= high, got {low} and {high}")
