"""Two releases on the same patients, for results that are right or wrong."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.proportions import Limits

STEEP = 1e6


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p-value of "both releases are right equally often".

    Args:
        b: Patients whom only the first release gets right.
        c: Patients whom only the second gets right.

    Returns:
        In (0, 1]; never below its nominal error, so conservative for few discordant patients.

    Raises:
        InputError: If a count is negative.

    Source: McNemar, Psychometrika 1947, 12:153-157, with the exact binomial law.
    """
    _check(b, c, b + c)
    return min(1.0, 2 * float(stats.binom.cdf(min(b, c), b + c, 0.5)))


def mcnemar_mid(b: int, c: int) -> float:
    """As `mcnemar`, with the observed count at half weight: nearer to the level, not proved.

    Arguments and errors as for `mcnemar`.

    Source: Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 2013, 13:91. Deviations: for
        `b == c` both halves meet and the result is 1, not 1 less half the chance of `b`.
    """
    _check(b, c, b + c)
    law = stats.binom(b + c, 0.5)
    return min(1.0, float(2 * law.cdf(min(b, c)) - law.pmf(b)))


def tango(b: int, c: int, n: int, level: float = 0.95) -> Limits:
    """Score interval of the first release's share minus the second's, on the same patients.

    Has width even where no patient is discordant; near its level from about 20 patients.

    Args:
        b: Patients whom only the first release gets right.
        c: Patients whom only the second gets right.
        n: All patients, above 0.
        level: Nominal coverage.

    Returns:
        Lower and upper limit, in [-1, 1], around `(b - c) / n`.

    Raises:
        InputError: If the counts or the level are impossible.

    Source: Tango, Stat. Med. 1998, 17:891-908.
    """
    _check(b, c, n)
    if n < 1 or not 0 < level < 1:
        raise InputError(f"paired: expected n >= 1 and 0 < level < 1, got {n} and {level}")
    z = float(stats.norm.ppf((1 + level) / 2))
    return -_upper(c, b, n, z), _upper(b, c, n, z)


def clustered_mcnemar(b_by_patient: ArrayLike, c_by_patient: ArrayLike) -> float:
    """p-value of "both releases are right equally often", for several cases per patient.

    Approximate: from about 30 patients with discordant cases on near its level, for fewer below.

    Args:
        b_by_patient: `(patients,)`, cases that only the first release gets right; 0 for a
            patient without any, who still counts.
        c_by_patient: `(patients,)`, cases that only the second gets right.

    Returns:
        Two-sided; 1 where no patient tips the balance, NaN for fewer than two patients.

    Source: Obuchowski, Stat. Med. 1998, 17:1495-1507.
    """
    excess = np.asarray(b_by_patient, dtype=float) - np.asarray(c_by_patient, dtype=float)
    patients = len(excess)
    if patients < 2:
        return math.nan
    if not excess.any():
        return 1.0
    statistic = (patients - 1) / patients * excess.sum() ** 2 / np.square(excess).sum()
    return float(stats.chi2.sf(statistic, 1))


def _upper(b: int, c: int, n: int, z: float) -> float:
    """Largest difference that the score test at `z` does not reject."""
    if b == n:
        return 1.0
    return float(optimize.brentq(lambda gap: _score(b, c, n, gap) + z, (b - c) / n, 1, xtol=1e-14))


def _score(b: int, c: int, n: int, gap: float) -> float:
    """Observed minus expected difference, over its error if `gap` were the truth."""
    excess = b - c - n * gap
    linear = (2 * n - b + c) * gap - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * gap * (1 - gap)))
    # chance of being right in the second release only, most likely under `gap`
    second = (root - linear) / (4 * n)
    variance = n * (2 * second + gap * (1 - gap))
    if excess == 0:
        return 0.0
    return float(np.clip(excess / math.sqrt(max(variance, 1e-300)), -STEEP, STEEP))


def _check(b: int, c: int, n: int) -> None:
    if b < 0 or c < 0 or b + c > n:
        raise InputError(f"paired: expected b, c >= 0 and b + c <= n, got {b} and {c} of {n}")
