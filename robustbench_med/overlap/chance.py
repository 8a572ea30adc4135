"""How alike two patients' images are by chance, and from where on that is no longer likely."""

import math

import numpy as np
from numpy.typing import NDArray

from robustbench_med.overlap.picture import Floats

FALSE_ALARMS = 0.05
"""Expected in a whole audit, at most: the field's usual level."""
UPPER = 0.9
CONFIDENCE = 0.95
RESAMPLES = 500
CLOSEST = 1 - 1e-6


def limit(best: Floats, patients: NDArray[np.int64], looks: int, rng: np.random.Generator) -> float:
    """Return the agreement that fewer than 0.05 of `looks` unrelated images would reach.

    Each value is the best that an image finds among other patients' images, a maximum; so a
    Gumbel distribution is laid through Fisher's z of the values, by their median and their 90th
    percentile. The limit is the 95th percentile of its own estimate over resampled patients, so
    that few patients make it higher, not wrong.

    Args:
        best: `(m,)`, best agreements in [-1, 1].
        patients: `(m,)`, whose image each is of.
        looks: How many images will be held against the limit.
        rng: Draws the patients.

    Source: Gumbel, Statistics of Extremes, 1958; arctanh of a correlation: Fisher 1915.
    """
    z = np.arctanh(np.clip(best, -1.0, CLOSEST))
    owned = [z[patients == patient] for patient in np.unique(patients)]
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(owned), len(owned))
        found.append(_upper(np.concatenate([owned[i] for i in drawn]), looks))
    return math.tanh(float(np.quantile(found, CONFIDENCE)))


def _upper(z: Floats, looks: int) -> float:
    middle, upper = np.quantile(z, (0.5, UPPER))
    scale = (upper - middle) / (_reduced(UPPER) - _reduced(0.5))
    beyond = 1 - FALSE_ALARMS / max(1, looks)
    return float(middle + scale * (_reduced(beyond) - _reduced(0.5)))


def _reduced(probability: float) -> float:
    """Quantile of the standard Gumbel distribution."""
    return -math.log(-math.log(probability))
