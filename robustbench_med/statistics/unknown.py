"""What a group's value could be, given the patients whose group was not recorded."""

import math

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.proportions import Limits


def bounds_with_unknown(
    numerator: float, denominator: float, unknown_numerator: Floats, unknown_denominator: Floats
) -> Limits:
    """Bound a group's ratio of sums over every guess at who else belongs to it.

    Sharp: each bound is reached by some set of the unrecorded patients, and no set goes beyond.
    A statement about these patients, without chance in it; it is not a confidence interval.

    Args:
        numerator: Sum over the patients known to belong.
        denominator: Sum over the patients known to belong; 0 if there are none.
        unknown_numerator: `(u,)`, what each patient of unrecorded group adds above.
        unknown_denominator: `(u,)`, what each adds below; one with 0 is left out.

    Returns:
        Lowest and highest possible value; NaN where the group may well have none.

    Source: Manski, Partial Identification of Probability Distributions, 2003, chapter 1
        (worst-case bounds); the best set takes patients in the order of their own ratios, as in
        Dinkelbach, Manage. Sci. 1967, 13:492-498.
    """
    held = unknown_denominator > 0
    above, below = unknown_numerator[held], unknown_denominator[held]
    if denominator == 0 and not len(above):
        return math.nan, math.nan
    rising = np.argsort(above / below, kind="stable")
    low = _along(numerator, denominator, above[rising], below[rising]).min()
    falling = rising[::-1]
    high = _along(numerator, denominator, above[falling], below[falling]).max()
    return float(low), float(high)


def _along(numerator: float, denominator: float, above: Floats, below: Floats) -> Floats:
    """Ratio after none, one, two, ... of the patients have been added."""
    tops = numerator + np.concatenate([[0.0], np.cumsum(above)])
    bottoms = denominator + np.concatenate([[0.0], np.cumsum(below)])
    return np.asarray(tops[bottoms > 0] / bottoms[bottoms > 0])
