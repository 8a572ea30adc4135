"""Intervals for shares: of independent patients, and of cases that share patients."""

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from robustbench_med.errors import InputError

Limits = tuple[float, float]


def wilson(successes: float, n: float, level: float = 0.95) -> Limits:
    """Score interval of a share.

    Args:
        successes: Between 0 and `n`; need not be whole, as for an effective sample size.
        n: Independent trials, above 0.
        level: Nominal coverage; approximate, within about 0.03 of it for small `n`.

    Returns:
        Lower and upper limit, in [0, 1].

    Raises:
        InputError: If the counts or the level are impossible.

    Source: Wilson, J. Am. Stat. Assoc. 1927, 22:209-212.
    """
    _check(successes, n, level)
    return score_limits(successes / n, n, _deviate(level))


@cache
def student(freedom: float, level: float = 0.95) -> float:
    """Quantile of Student's t that a two-sided interval of the level reaches to."""
    return float(stats.t.ppf((1 + level) / 2, max(freedom, 1)))


@cache
def _deviate(level: float) -> float:
    return float(stats.norm.ppf((1 + level) / 2))


def score_limits(share: float, n: float, z: float) -> Limits:
    """Wilson's limits that lie `z` standard errors from the share of `n` trials, in [0, 1]."""
    centre = share + z**2 / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> Limits:
    """Exact interval of a share: its coverage is at least `level`, whatever the share.

    Arguments, result and errors as for `wilson`.

    Source: Clopper and Pearson, Biometrika 1934, 26:404-413, by quantiles of the beta law.
    """
    _check(successes, n, level)
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def effective_size(successes: ArrayLike, cases: ArrayLike) -> float:
    """Number of independent cases that would estimate the share as well as these do.

    `p (1 - p) / v`, with `v` the variance of a ratio of sums over patients. Copies of a case
    change nothing, which is why it is not capped at the number of cases. Infinite where
    patients do not differ at all, so that `v` is 0.

    Args:
        successes: `(patients,)`, cases with the value 1.
        cases: `(patients,)`, cases in all, at least 1 each.

    Source: Rao and Scott, Biometrics 1992, 48:577-585; Obuchowski, Stat. Med. 1998,
        17:1495-1507.
    """
    counted, sizes = np.asarray(successes, dtype=float), np.asarray(cases, dtype=float)
    patients, total = len(sizes), sizes.sum()
    share = counted.sum() / total
    excess = np.square(counted - sizes * share).sum()
    if patients < 2 or excess <= 1e-12 * total:
        return math.inf
    variance = patients / (patients - 1) * excess / total**2
    return float(share * (1 - share) / variance)


def rao_scott(successes: ArrayLike, cases: ArrayLike, level: float = 0.95) -> Limits:
    """Wilson's interval on the effective size with Student's t, for several cases per patient.

    Student's, because the variance was itself learnt from the patients: see `freedom_of`.

    Where the patients do not differ at all the between-patient variance cannot be estimated,
    and the limits are those of `clopper_pearson` with every patient counted once.

    Args:
        successes: `(patients,)`, cases with the value 1.
        cases: `(patients,)`, cases in all, at least 1 each.
        level: Nominal coverage; approximate, see docs/estimate.md.

    Source: as `effective_size`; Korn and Graubard, Survey Methodology 1998, 24:193-201 (an
        effective size times `(z / t)^2` is the same).
    """
    counted, sizes = np.asarray(successes, dtype=float), np.asarray(cases, dtype=float)
    share = float(counted.sum() / sizes.sum())
    size = effective_size(counted, sizes)
    if math.isinf(size):
        return clopper_pearson(share * len(sizes), len(sizes), level)
    return score_limits(share, size, student(freedom_of(sizes, size), level))


def freedom_of(cases: ArrayLike, size: float) -> float:
    """Degrees of freedom of a variance between patients with different numbers of cases.

    Patients with many cases carry more of it, so that it is learnt from fewer: `(Σw)² / Σw²`
    patients less one, `w = m (1 + r (m - 1))` for `m` cases, `r` the correlation between cases
    of a patient that the effective size tells of. With as many cases each, the patients less 1.

    Args:
        cases: `(patients,)`, cases in all, at least 1 each.
        size: From `effective_size`, finite.

    Source: Satterthwaite, Biometrics Bull. 1946, 2:110-114; weights by cluster size as in Carter
        et al., Rev. Econ. Stat. 2017, 99:698-709.
    """
    sizes = np.asarray(cases, dtype=float)
    crowding = float(np.square(sizes).sum() / sizes.sum()) - 1
    alike = (sizes.sum() / size - 1) / crowding if crowding > 0 else 0.0
    weights = sizes * (1 + min(max(alike, 0.0), 1.0) * (sizes - 1))
    return float(weights.sum() ** 2 / np.square(weights).sum() - 1)


def _check(successes: float, n: float, level: float) -> None:
    if not 0 <= successes <= n or not n > 0:
        raise InputError(f"share: expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    if not 0 < level < 1:
        raise InputError(f"share: level must lie between 0 and 1, got {level}")
