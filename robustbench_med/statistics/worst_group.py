"""The worst of many groups, corrected for having been picked as the worst."""

import math
from dataclasses import dataclass

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.heterogeneity import between_variance
from robustbench_med.statistics.scores import Better, badness


@dataclass(frozen=True)
class WorstGroup:
    """The group with the worst estimate.

    Attributes:
        place: Position among the groups.
        value: Its estimate: too bad on average, because the worst of many is also the unluckiest.
        corrected: The estimate shrunk towards all groups; NaN where its error is unknown.
        low: Lower limit that holds although the group was picked; NaN where its error is unknown.
        high: Upper limit.
        spread: Standard deviation of the groups' true values, as estimated; NaN for one group.
    """

    place: int
    value: float
    corrected: float
    low: float
    high: float
    spread: float


def shrink(values: Floats, errors: Floats) -> Floats:
    """Pull each group towards the common mean, the more so the less its value is worth.

    `m + v / (v + error^2) (value - m)`, with `v` the variance between groups and `m` the mean
    weighted by `1 / (v + error^2)`. Better on average over the groups, not for each one; with
    `v` estimated as 0 all groups get the same value, which is no proof that they are alike.

    Args:
        values: `(k,)`; NaN where undefined.
        errors: `(k,)`, standard errors. A group whose error is not above 0 is left out.

    Returns:
        `(k,)`; NaN for a group that is left out.

    Source: Efron and Morris, J. Am. Stat. Assoc. 1975, 70:311-319; variance as
        `between_variance`.
    """
    shrunk = np.full(len(values), np.nan)
    held = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    if np.count_nonzero(held) < 2:
        shrunk[held] = values[held]
        return shrunk
    between = between_variance(values, errors)
    total = between + np.square(errors[held])
    centre = np.average(values[held], weights=1 / total)
    shrunk[held] = centre + between / total * (values[held] - centre)
    return shrunk


def worst_group(
    values: Floats, errors: Floats, better: Better, quantile: float
) -> WorstGroup | None:
    """Pick the group with the worst estimate and say what can be said of it.

    Args:
        values: `(k,)`; NaN where undefined.
        errors: `(k,)`, standard errors; NaN or 0 where unknown.
        better: What a good value is; for `zero` and `one` the farthest from it is worst.
        quantile: Critical value with which the intervals of all groups hold at once: of the
            largest |t|, or Bonferroni's. That is why they hold for whichever is picked.

    Returns:
        The first among equals; None where no group has a value.

    Source: Andrews, Kitagawa and McCloskey, Q. J. Econ. 2024, 139:305-358 (the problem, and
        simultaneous limits as the conservative answer); correction as `shrink`.
    """
    if np.isnan(values).all():
        return None
    place = int(np.nanargmax(badness(values, better)))
    value, error = float(values[place]), float(errors[place])
    reach = float(quantile * error) if error > 0 and math.isfinite(value) else math.nan
    return WorstGroup(
        place=place,
        value=value,
        corrected=float(shrink(values, errors)[place]),
        low=value - reach,
        high=value + reach,
        spread=math.sqrt(between_variance(values, errors)),
    )
