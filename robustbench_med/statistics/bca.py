"""Intervals and p-values from resamples that are more accurate than plain percentiles."""

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


def studentised(value: float, standard_error: float, t: Draws, level: float = 0.95) -> Limits:
    """Student's interval with the quantiles of the resamples in place of Student's.

    Args:
        value: The estimate.
        standard_error: Of it.
        t: `(draws,)`, `(resampled - value) / resampled error`; undefined ones are left out, an
            infinite one (an error of 0) keeps its place at the end.
        level: Nominal coverage.

    Returns:
        Lower and upper limit; both NaN where a quantile that is needed is not finite or lies
        outside the resamples, or the standard error is not above 0.

    Raises:
        InputError: If the level is not between 0 and 1.

    Source: Davison and Hinkley 1997, section 5.2 (studentised limits), with quantiles at
        `(draws + 1) tail`, so that limits and `studentised_p` agree.
    """
    _check(level)
    defined, tail = t[~np.isnan(t)], (1 - level) / 2
    if (len(defined) + 1) * tail < 1 or not standard_error > 0:
        return NO_LIMITS
    low, high = _quantiles(defined, np.array([tail, 1 - tail]), "weibull")
    return value - high * standard_error, value - low * standard_error


def studentised_p(observed_t: Floats, t: Draws, df: Floats) -> Floats:
    """p-values that belong to the `studentised` intervals, one per column.

    The level at which the equal-tailed interval just reaches no effect: twice the share of
    resamples in the smaller tail. Where that tail is empty the resamples only say "below
    `2 / (draws + 1)`"; there Student's law takes over if it gives less, an extrapolation.

    Args:
        observed_t: `(k,)`, estimate over its standard error, against no effect.
        t: `(draws, k)`, as in `studentised`; undefined ones are left out, column by column.
        df: `(k,)`, degrees of freedom of Student's law; NaN for no extrapolation.

    Returns:
        `(k,)`, at most 1; NaN where `observed_t` is not finite or no resample is defined.

    Source: Davison and Hinkley 1997, sections 4.4 and 5.2, by inversion of the interval; Phipson
        and Smyth, Stat. Appl. Genet. Mol. Biol. 2010, 9:39 (why the observed value counts too).
    """
    draws = np.count_nonzero(~np.isnan(t), axis=0)
    above = np.count_nonzero(t >= observed_t, axis=0)
    below = np.count_nonzero(t <= observed_t, axis=0)
    beyond = np.minimum(above, below)
    p = np.minimum(2 * (1 + beyond) / (draws + 1), 1.0)
    tail = 2 * stats.t.sf(np.abs(observed_t), df)
    p = np.where(beyond == 0, np.fmin(p, tail), p)
    return np.where(np.isfinite(observed_t) & (draws > 0), p, np.nan)


def _quantiles(draws: Draws, at: Floats, method: str) -> Limits:
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(draws, at, method=method)  # type: ignore[call-overload]
    return (float(low), float(high)) if np.isfinite([low, high]).all() else NO_LIMITS


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"interval: level must lie between 0 and 1, got {level}")
