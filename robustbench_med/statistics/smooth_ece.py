"""Smooth calibration error: how far scores lie from the share of cases that have the class."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from robustbench_med.statistics.bootstrap import Floats, draw_patients
from robustbench_med.statistics.proportions import Limits
from robustbench_med.statistics.scores import Counts, Flags

CELLS = 512
HALVINGS = 17
DRAWS = 200


def smooth_ece(score: Floats, positive: Flags, weights: Floats | None = None) -> float:
    """Measure the distance from calibration, smoothed as widely as the distance itself.

    The residuals (1 or 0, less the score) are smoothed along the score by a Gaussian kernel
    reflected at 0 and 1; the error at width sigma is the integral of the absolute value, and
    the error reported is the sigma that equals its own. It is about |p - q| where scores of p
    come true with a share of q. Chance alone makes it greater than 0: see `smooth_ece_null`.

    Args:
        score: `(c,)`, probability of the class, in [0, 1].
        positive: `(c,)`, whether the class is present.
        weights: `(c,)`, how much each case counts; all the same if None.

    Returns:
        In [0, 1], to about 1e-5; NaN without cases.

    Source: Blasiok and Nakkiran, Smooth ECE, ICLR 2024, arXiv:2309.12236, definitions of
        smECE_sigma and of its fixed point. Computed on a grid of `CELLS`, on which the
        reflected kernel acts on each cosine wave by itself.
    """
    total = len(score) if weights is None else weights.sum()
    if not total:
        return math.nan
    one = np.zeros(len(score), dtype=np.intp)
    pulls = positive - score if weights is None else weights * (positive - score)
    return float(_fixed_points(_spread(score, pulls / total, one, 1).toarray())[0])


def smooth_ece_null(
    score: Floats,
    positive: Flags,
    patient: Counts,
    patients: int,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> float:
    """Estimate what `smooth_ece` would be of a calibrated model with these scores and patients.

    The residuals of each patient keep or change their sign together, so that they are right on
    average at every score and still resemble each other within a patient as much as they do.

    Args:
        score: `(c,)`, probability of the class, in [0, 1].
        positive: `(c,)`, whether the class is present.
        patient: `(c,)`, positions 0 to `patients` - 1.
        patients: How many there are.
        rng: From `bootstrap.generator`.
        draws: Patterns of signs.

    Source: the wild bootstrap, Cameron, Gelbach and Miller, Rev. Econ. Stat. 2008,
        90:414-427, section III; here of the residuals of the score itself.
    """
    if not len(score):
        return math.nan
    table = _spread(score, (positive - score) / len(score), patient, patients)
    signs = rng.choice(np.array([-1.0, 1.0]), size=(draws, patients))
    return float(_fixed_points(signs @ table).mean())


def smooth_ece_interval(
    score: Floats,
    positive: Flags,
    patient: Counts,
    patients: int,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Limits:
    """95% limits by the patient bootstrap, the lower one freed of what chance adds.

    A resample has the noise of the sample and as much again of its own. Noise adds to the
    error about as squares add, so that the lower limit is a percentile of the square root of
    resampled error squared less twice `smooth_ece_null` squared, at least 0. The upper limit
    is the plain percentile: above rather than below the truth where chance adds to it.

    Arguments as for `smooth_ece_null`.

    Returns:
        Limits in [0, 1]; NaN for fewer than two patients.

    Source: patient bootstrap as in `bootstrap.draw_patients`; the correction by simulation,
        see docs/statistics.md.
    """
    if len(np.unique(patient)) < 2:
        return math.nan, math.nan
    noise = smooth_ece_null(score, positive, patient, patients, rng, draws)
    drawn = draw_patients(patients, rng, draws).astype(np.float64)
    cases = np.maximum(drawn @ np.bincount(patient, minlength=patients), 1)
    table = _spread(score, positive - score, patient, patients)
    resampled = _fixed_points((drawn @ table) / cases[:, None])
    freed = np.sqrt(np.maximum(np.square(resampled) - 2 * noise**2, 0.0))
    return float(np.quantile(freed, 0.025)), float(np.quantile(resampled, 0.975))


def _spread(score: Floats, mass: Floats, row: Counts, rows: int) -> sparse.csr_array:
    """Lay mass on the two cells whose centres are nearest to its score, `(rows, CELLS)`."""
    place = score.astype(np.float64) * CELLS - 0.5
    below = np.floor(place)
    part = place - below
    cells = np.concatenate([below, below + 1]).clip(0, CELLS - 1).astype(np.intp)
    masses = np.concatenate([mass * (1 - part), mass * part])
    return sparse.csr_array((masses, (np.tile(row, 2), cells)), shape=(rows, CELLS))


def _fixed_points(mass: NDArray[np.float64]) -> Floats:
    """The width at which each row's error equals it, by halving: the error falls with width."""
    waves = fft.dct(mass, axis=1)
    low, high = np.zeros(len(mass)), np.ones(len(mass))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = _errors(waves, middle) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def _errors(waves: Floats, width: Floats) -> Floats:
    frequency = np.pi * np.arange(CELLS)
    damped = waves * np.exp(-np.square(frequency * width[:, None]) / 2)
    return np.asarray(np.abs(fft.idct(damped, axis=1)).sum(axis=1))
