"""Percentile intervals of resamples, corrected for bias and acceleration."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.proportions import Limits

Draws = NDArray[np.float64] | NDArray[np.float32]

NO_LIMITS: Limits = (math.nan, math.nan)


def bca(replicates: Draws, value: float, jackknife: Floats, level: float = 0.95) -> Limits:
    """Percentiles of the resamples, moved for bias and for an error that grows with the value.

    Args:
        replicates: `(draws,)`; undefined ones are left out, those equal to `value` count half.
        value: The estimate.
        jackknife: `(patients,)`, the estimate without each patient in turn. For a `Linear`,
            `value - influence` serves.
        level: Nominal coverage.

    Returns:
        Lower and upper limit; both NaN where no resample lies on one side of `value`, where no
        patient changes the estimate, or where the correction runs out of the resamples.

    Raises:
        InputError: If the level is not between 0 and 1.

    Source: Efron, J. Am. Stat. Assoc. 1987, 82:171-185; Efron and Tibshirani 1993, section 14.3.
    """
    _check(level)
    defined = replicates[~np.isnan(replicates)]
    pulls = jackknife.mean() - jackknife
    squares = float(np.square(pulls).sum())
    below = (np.count_nonzero(defined < value) + np.count_nonzero(defined <= value)) / 2
    if not 0 < below < len(defined) or not squares > 0:
        return NO_LIMITS
    bias = stats.norm.ppf(below / len(defined))
    acceleration = float((pulls**3).sum()) / (6 * squares**1.5)
    shifted = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    shrinking = 1 - acceleration * shifted
    if (shrinking <= 0).any():
        return NO_LIMITS
    return _quantiles(defined, stats.norm.cdf(bias + shifted / shrinking), "linear")


def _quantiles(draws: Draws, at: Floats, method: str) -> Limits:
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(draws, at, method=method)  # type: ignore[call-overload]
    return (float(low), float(high)) if np.isfinite([low, high]).all() else NO_LIMITS


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"interval: level must lie between 0 and 1, got {level}")
