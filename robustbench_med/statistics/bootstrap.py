"""The patient bootstrap: whole patients are drawn, every column with the same draws."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts8 = NDArray[np.uint8]
Singles = NDArray[np.float32]

DRAWS = 2000
BLOCK_CELLS = 2**23


def generator(seed: int, name: str = "") -> np.random.Generator:
    """Random numbers that depend on the run's seed and on what they are for, nothing else."""
    if not name:
        return np.random.default_rng(seed)
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def draw_patients(patients: int, rng: np.random.Generator, draws: int = DRAWS) -> Counts8:
    """How often each patient is drawn in each resample of as many patients as there are.

    One table serves all groups, metrics and probes of a run, so that differences and greatest
    values among them are coherent.

    Returns:
        `(draws, patients)`, multinomial counts; each row sums to `patients`. One byte each: a
        count of 256 in more than 255 patients does not happen (odds of about 1e-507).

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8
        (resampling of whole clusters); Field and Welsh, J. R. Stat. Soc. B 2007, 69:369-390.
    """
    # A patient's draws lie together in memory, because groups pick patients.
    table = np.empty((patients, draws), dtype=np.uint8).T
    for rows in _blocks(draws, patients):
        picks = rng.integers(patients, size=(rows.stop - rows.start, patients))
        picks += np.arange(len(picks))[:, None] * patients
        counts = np.bincount(picks.ravel(), minlength=picks.size)
        table[rows] = counts.reshape(picks.shape)
    return table


@dataclass(frozen=True)
class Replicates:
    """What the resamples make of `q` estimates.

    Attributes:
        shift: `(draws, q)`, resampled estimate minus the estimate, to first order.
        variance: `(draws, q)`, of each resampled estimate; 0 where its patients all agree.
    """

    shift: Singles
    variance: Singles

    def against(self, other: "Replicates") -> "Replicates":
        """Replicates of the difference of two estimates from different patients."""
        return Replicates(self.shift - other.shift, self.variance + other.variance)

    def studentised(self) -> Singles:
        """Shift over its standard error, `(draws, q)`; infinite where that is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.shift / np.sqrt(self.variance)
        return np.where(np.isnan(found), np.float32(0), found)


def replicate(table: Counts8, influence: Floats, held: NDArray[np.bool_]) -> Replicates:
    """Resample `q` estimates by the influence that each patient has on them.

    Args:
        table: `(draws, patients)`, from `draw_patients`, of these patients.
        influence: `(patients, q)`, as in `Linear`.
        held: `(patients, q)`, whether the patient counts for the estimate.

    Source: Davison and Hinkley 1997, sections 2.7 (influence values) and 5.2 (studentised).
    """
    shift = np.zeros((len(table), influence.shape[1]), dtype=np.float32)
    variance = np.zeros_like(shift)
    moving = np.flatnonzero(influence.any(axis=0))
    if len(moving):
        found = _replicate(table, influence[:, moving], held[:, moving])
        shift[:, moving], variance[:, moving] = found
    return Replicates(shift, variance)


def _replicate(
    table: Counts8, influence: Floats, held: NDArray[np.bool_]
) -> tuple[Singles, Singles]:
    """Shift and variance of estimates that have any influence, in blocks of draws."""
    draws, width = len(table), influence.shape[1]
    scale = np.sqrt(np.square(influence).mean(axis=0))
    scaled = (influence / scale).astype(np.float32)
    sizes, place = _distinct(held)
    both = np.concatenate([scaled, np.square(scaled), sizes.astype(np.float32)], axis=1)
    shift = np.empty((draws, width), dtype=np.float32)
    variance = np.empty_like(shift)
    counted = np.count_nonzero(held, axis=0).astype(np.float32)
    for rows in _blocks(draws, len(influence)):
        sums = table[rows].astype(np.float32) @ both
        first, second, drawn = np.split(sums, [width, 2 * width], axis=1)
        _standardise(first, second, drawn[:, place], counted, shift[rows], variance[rows])
    unit = scale.astype(np.float32)
    return shift * unit, variance * np.square(unit)


def _standardise(
    first: Singles, second: Singles, drawn: Singles,
    counted: Singles, shift: Singles, variance: Singles,
) -> None:  # fmt: skip
    """Shift and variance as if as many patients had been drawn as there are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = counted / drawn
        shift[:] = first * grown
        spread = second - np.square(first) / drawn
        # Rounding leaves about 1e-6 of the squares where all drawn patients agree.
        spread = np.where(spread > 1e-5 * second, spread, 0.0)
        variance[:] = spread * np.square(grown) * drawn / (drawn - 1)
    variance[~(drawn > 1)] = 0.0
    np.nan_to_num(shift, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _distinct(held: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The different columns of `held`, and which of them each column is."""
    names = [column.tobytes() for column in np.ascontiguousarray(held.T)]
    known = {name: place for place, name in enumerate(dict.fromkeys(names))}
    place = np.array([known[name] for name in names], dtype=np.intp)
    first = [int(np.argmax(place == k)) for k in range(len(known))]
    return held[:, first], place


def _blocks(draws: int, patients: int) -> Iterator[slice]:
    rows = max(1, BLOCK_CELLS // max(patients, 1))
    for first in range(0, draws, rows):
        yield slice(first, min(first + rows, draws))
