"""A short vector of a picture that survives recompression, rescaling, gain and offset."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.overlap.picture import SIDE, TURNS, Floats

Fingerprints = NDArray[np.float32]
"""`(n, 63)`: lowest cosine coefficients, row by row; all 0 for an image of one value."""
LOWEST = 8
LENGTH = LOWEST * LOWEST - 1
RIDGE = 0.1
"""Of the mean variance; directions with less of it are noise and are not blown up."""


def _cosines() -> Floats:
    frequency, place = np.arange(LOWEST)[:, None], np.arange(SIDE)[None]
    waves = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE))
    return np.asarray(waves * np.sqrt(np.where(frequency == 0, 1, 2) / SIDE))


COSINES = _cosines()


def fingerprint(picture: Floats) -> Fingerprints:
    """Return the `(63,)` lowest cosine coefficients of a `(64, 64)` picture, as shares.

    The constant one is left out, so an offset changes nothing; the rest are divided by the
    picture's spread, so a gain changes nothing. Recompression and rescaling act on higher ones.

    Source: the discrete cosine transform, type 2: Ahmed, Natarajan and Rao, IEEE Trans.
        Computers 1974, DOI 10.1109/T-C.1974.223784.
    """
    spread = float(np.linalg.norm(picture - picture.mean()))
    if spread <= 1e-9 * max(1.0, float(np.abs(picture).max()) * SIDE):
        return np.zeros(LENGTH, dtype=np.float32)
    low = COSINES @ picture @ COSINES.T
    return (low.reshape(-1)[1:] / spread).astype(np.float32)


def turned_fingerprints(prints: Fingerprints) -> Fingerprints:
    """Return `(8, n, 63)`: the fingerprints `(n, 63)` of the turned pictures, exactly.

    To transpose a picture transposes its coefficients; to flip an axis changes the sign of the
    odd ones along it. So nothing is resampled.
    """
    square = np.concatenate([np.zeros((len(prints), 1), dtype=np.float32), prints], axis=1)
    square = square.reshape(-1, LOWEST, LOWEST)
    sign = np.where(np.arange(LOWEST) % 2, -1, 1).astype(np.float32)
    made = []
    for turn in range(len(TURNS)):
        moved = square.transpose(0, 2, 1) if turn & 4 else square
        moved = moved * sign[:, None] if turn & 2 else moved
        moved = moved * sign if turn & 1 else moved
        made.append(moved.reshape(len(prints), -1)[:, 1:])
    return np.stack(made)


@dataclass(frozen=True)
class Whitening:
    """What all images of a split share, taken out: their mean and their common variation.

    Chest radiographs are all alike in their lowest coefficients. What tells patients apart is
    what is left after this.

    Attributes:
        mean: `(63,)`.
        matrix: `(63, 63)`.
    """

    mean: Fingerprints
    matrix: Fingerprints

    @classmethod
    def of(cls, prints: Fingerprints) -> "Whitening":
        """Learn it from the fingerprints `(n, 63)` of the training split."""
        known = prints[np.any(prints, axis=1)].astype(np.float64)
        if len(known) < 2:
            return cls(np.zeros(LENGTH, np.float32), np.eye(LENGTH, dtype=np.float32))
        variance, axes = np.linalg.eigh(np.cov(known.T))
        variance = np.maximum(variance, 0.0)
        scale = 1 / np.sqrt(variance + RIDGE * variance.mean() + 1e-12)
        return cls(known.mean(axis=0).astype(np.float32), (axes * scale).astype(np.float32))

    def __call__(self, prints: Fingerprints) -> Fingerprints:
        """Map `(..., 63)` to vectors of length 1, whose inner product is the likeness.

        An image of one value is like nothing: its vector is 0.
        """
        moved = (prints - self.mean) @ self.matrix
        length = np.linalg.norm(moved, axis=-1, keepdims=True)
        known = np.any(prints, axis=-1, keepdims=True)
        return np.where(known, moved / np.maximum(length, 1e-12), 0).astype(np.float32)
