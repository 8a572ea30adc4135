"""The patient bootstrap: whole patients are drawn, all columns with the same draws."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
BLOCK_CELLS = 2**22


def generator(seed: int, name: str = "") -> np.random.Generator:
    """Random numbers that depend on the run's seed and on what they are for, nothing else."""
    if not name:
        return np.random.default_rng(seed)
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def weights(patients: int, rng: np.random.Generator, draws: int = DRAWS) -> Iterator[Floats]:
    """How often each patient is drawn in each resample, some resamples at a time.

    Yields:
        `(some resamples, patients)`, multinomial counts; each row sums to `patients`. At most
        `BLOCK_CELLS` cells, so that memory stays bounded for many patients.
    """
    rows = max(1, BLOCK_CELLS // patients)
    for first in range(0, draws, rows):
        size = min(rows, draws - first)
        picks = rng.integers(patients, size=(size, patients))
        picks += np.arange(size)[:, None] * patients
        counts = np.bincount(picks.ravel(), minlength=size * patients)
        yield counts.reshape(size, patients).astype(np.float64)


def resample(
    numerator: Floats, denominator: Floats, rng: np.random.Generator, draws: int = DRAWS
) -> Floats:
    """Ratios of sums over resampled patients.

    All columns see the same resamples, so differences and maxima between columns are coherent.

    Args:
        numerator: `(patients, columns)`; an infinite entry counts as 0 here, see `Estimate`.
        denominator: `(patients, columns)`, at least 0.
        rng: From `generator`.
        draws: Resamples.

    Returns:
        `(draws, columns)`; NaN where no drawn patient has anything in the denominator.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8
        (resampling of whole clusters); Field and Welsh, J. R. Stat. Soc. B 2007, 69:369-390.
    """
    finite = np.where(np.isfinite(numerator), numerator, 0.0)
    both = np.concatenate([finite, denominator], axis=1)
    sums = np.concatenate([block @ both for block in weights(len(both), rng, draws)])
    above, below = np.split(sums, 2, axis=1)
    ratios = np.full_like(above, np.nan)
    np.divide(above, below, out=ratios, where=below > 0)
    return ratios


def percentile(replicates: Floats, level: float = 0.95) -> tuple[float, float]:
    """Limits of the percentile interval; undefined resamples are left out.

    Args:
        replicates: `(draws,)`, at least one defined.
        level: Nominal coverage.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicates[~np.isnan(replicates)], [tail, 1 - tail])
    return float(low), float(high)
