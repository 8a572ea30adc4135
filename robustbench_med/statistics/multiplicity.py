"""Adjusted p-values for a family of tests; a test that was not made (NaN) is not counted."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from robustbench_med.errors import InputError
from robustbench_med.statistics.bca import Draws
from robustbench_med.statistics.bootstrap import Floats


def holm(p: ArrayLike) -> Floats:
    """Adjust so that the chance of any false rejection stays at the level.

    Holds under any dependence between the tests.

    Args:
        p: `(k,)`, in [0, 1]; NaN for a test that was not made.

    Returns:
        `(k,)`, at most 1; reject where it is at most the level. NaN where `p` is.

    Raises:
        InputError: If a p-value lies outside [0, 1].

    Source: Holm, Scand. J. Stat. 1979, 6:65-70.
    """
    return _adjust(p, lambda rising: np.maximum.accumulate(rising * np.arange(len(rising), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjust so that the expected share of false rejections stays at the level.

    Proved for independent tests and for those with positive regression dependence.
    Arguments, result and errors as for `holm`.

    Source: Benjamini and Hochberg, J. R. Stat. Soc. B 1995, 57:289-300; Benjamini and
        Yekutieli, Ann. Stat. 2001, 29:1165-1188, theorem 1.2 (dependence).
    """
    return _adjust(p, _step_up)


def benjamini_yekutieli(p: ArrayLike) -> Floats:
    """Adjust as `benjamini_hochberg` does, at a price that covers any dependence.

    Arguments, result and errors as for `holm`.

    Source: Benjamini and Yekutieli, Ann. Stat. 2001, 29:1165-1188, theorem 1.3.
    """
    return _adjust(p, lambda rising: _step_up(rising) * (1 / np.arange(1, len(rising) + 1)).sum())


def max_t(observed: Floats, replicates: Draws) -> Floats:
    """Adjust studentised values by the joint law of the largest of them, step by step.

    The chance of any false rejection stays at the level, as nearly as the replicates follow the
    law of the observed values about the truth. More powerful than `holm` where tests move
    together. The smallest p-value it can return is `1 / (draws + 1)`.

    Args:
        observed: `(k,)`, estimate over its standard error; NaN for a test that was not made.
        replicates: `(draws, k)`, `(resampled - estimate) / resampled error`; every column from
            the same resamples. An infinite one counts as larger, a NaN as 0.

    Returns:
        `(k,)`, two-sided; NaN where `observed` is.

    Raises:
        InputError: If the two disagree on the number of tests.

    Source: Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8, with the
        largest |t| for the smallest p; Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 2010,
        9:39 (why 1 is added).
    """
    if replicates.ndim != 2 or replicates.shape[1:] != observed.shape:
        shapes = f"{observed.shape} and {replicates.shape}"
        raise InputError(f"max_t: expected shapes (k,) and (draws, k), got {shapes}")
    adjusted = np.full(len(observed), np.nan)
    tested = np.flatnonzero(~np.isnan(observed))
    falling = tested[np.argsort(-np.abs(observed[tested]), kind="stable")]
    sizes = np.abs(replicates[:, falling])
    sizes[np.isnan(sizes)] = 0.0
    # column j: the largest among the j-th most extreme test and all less extreme ones
    largest = np.maximum.accumulate(sizes[:, ::-1], axis=1)[:, ::-1]
    beyond = (largest >= np.abs(observed[falling])).sum(axis=0)
    adjusted[falling] = np.maximum.accumulate((1 + beyond) / (len(replicates) + 1))
    return adjusted


def _step_up(rising: Floats) -> Floats:
    scaled = rising * len(rising) / np.arange(1, len(rising) + 1)
    return np.minimum.accumulate(scaled[::-1])[::-1]


def _adjust(p: ArrayLike, rule: Callable[[Floats], Floats]) -> Floats:
    """Apply a rule for p-values in rising order to those that are there."""
    given = np.asarray(p, dtype=np.float64)
    wrong = np.flatnonzero((given < 0) | (given > 1))
    if len(wrong):
        place = wrong[0]
        raise InputError(f"p-values: expected [0, 1] or NaN, got {given[place]} at place {place}")
    tested = np.flatnonzero(~np.isnan(given))
    rising = tested[np.argsort(given[tested], kind="stable")]
    adjusted = np.full(len(given), np.nan)
    adjusted[rising] = np.minimum(rule(given[rising]), 1.0)
    return adjusted
