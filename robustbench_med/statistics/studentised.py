"""Intervals and p-values from studentised resamples, for many estimates at once."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustbench_med.statistics.bootstrap import Floats, Replicates


def limits(
    values: Floats, errors: Floats, replicates: Replicates, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Bootstrap-t limits: the value minus its error times quantiles of the studentised draws.

    Args:
        values: `(q,)`.
        errors: `(q,)`, standard errors; 0 where the patients agree.
        replicates: Of the same estimates, `(draws, q)`.
        level: Nominal coverage.

    Returns:
        Lower and upper limits, `(q,)`; NaN where the error is 0 or unknown, or where so many
        resamples show no spread that a limit would be infinite.

    Source: Efron 1982; Davison and Hinkley 1997, section 5.2.1, equation 5.6.
    """
    ordered = np.sort(replicates.studentised(), axis=0)
    draws = len(ordered)
    place = max(int((draws + 1) * (1 - level) / 2), 1)
    below, above = ordered[place - 1], ordered[draws - place]
    with np.errstate(invalid="ignore"):
        low, high = values - above * errors, values - below * errors
    good = np.isfinite(low) & np.isfinite(high) & (errors > 0)
    return np.where(good, low, np.nan), np.where(good, high, np.nan)


def p_values(
    values: Floats, errors: Floats, replicates: Replicates, patients: NDArray[np.intp]
) -> Floats:
    """Two-sided p-values of "the true value is 0", by inverting the interval of `limits`.

    Twice the share of draws beyond the observed value on the rarer side. Where no draw is
    beyond it, Student's t takes over, but never above what the draws say.

    Args:
        values: `(q,)`.
        errors: `(q,)`, standard errors.
        replicates: Of the same estimates.
        patients: `(q,)`, whose number less one is Student's degrees of freedom.

    Returns:
        `(q,)`; NaN where there is no error to hold the value against.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = values / errors
    drawn = replicates.studentised()
    draws = len(drawn)
    with np.errstate(invalid="ignore"):
        above, below = (drawn >= observed).sum(axis=0), (drawn <= observed).sum(axis=0)
    found = 2 * (1 + np.minimum(above, below)) / (draws + 1)
    tail = 2 * stats.t.sf(np.abs(observed), np.maximum(patients - 1, 1))
    alone = np.minimum(above, below) == 0
    found = np.where(alone, np.minimum(found, tail), np.minimum(found, 1.0))
    return np.where(np.isfinite(observed), found, np.nan)


def deviates(draws: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every draw of a column the normal deviate of its rank, `(draws, q)`.

    On this scale columns with long and with short tails can be held against one another, and
    each keeps its dependence on the others. A rank stands in the middle of its share, so that as
    many draws lie beyond a deviate as it promises, with many columns and few draws too.
    """
    order = np.argsort(draws, axis=0, kind="stable")
    scale = stats.norm.ppf((np.arange(len(draws)) + 0.5) / len(draws)).astype(np.float32)
    found = np.empty_like(draws)
    np.put_along_axis(found, order, scale[:, None], axis=0)
    return found


def deviate_of(p: Floats) -> Floats:
    """Normal deviate whose two-sided p-value is `p`; NaN where there is none."""
    return np.asarray(stats.norm.isf(np.maximum(p, np.finfo(float).tiny) / 2))
