"""What some of the cases say of one metric under every probe, patient by patient."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.linear import Linear
from robustbench_med.statistics.patients import PatientSums
from robustbench_med.statistics.scores import Flags


@dataclass(frozen=True)
class Portion:
    """`q` linear estimates of the same `p` patients.

    Attributes:
        values: `(q,)`, NaN where undefined.
        influence: `(p, q)`, see `Linear`.
        held: `(p, q)`, whether the patient has something to add.
        deciding: `(q,)`, patients by whose number the estimate is shown or suppressed: those
            held, or the fewer of those with and those without what is to be found.
        sums: Of a ratio of sums; None for other statistics.
    """

    values: Floats
    influence: Floats
    held: Flags
    deciding: NDArray[np.intp]
    sums: PatientSums | None = None

    def linear(self, place: int) -> Linear:
        """One of the columns."""
        held = int(np.count_nonzero(self.held[:, place]))
        return Linear(float(self.values[place]), self.influence[:, place], held)

    @cached_property
    def patients(self) -> NDArray[np.intp]:
        """`(q,)`, patients with something to add."""
        return np.asarray(np.count_nonzero(self.held, axis=0))

    @property
    def error(self) -> Floats:
        """`(q,)`, standard error of each estimate; NaN for fewer than two patients."""
        patients = self.patients
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = np.where(patients > 1, patients / (patients - 1), np.nan)
        return np.asarray(np.sqrt(grown * np.square(self.influence).sum(axis=0)))


def of_sums(sums: PatientSums) -> Portion:
    """Ratios of sums over patients; an infinite ratio has no influences."""
    held = sums.denominator > 0
    total = sums.denominator.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(total > 0, sums.numerator.sum(axis=0) / total, np.nan)
        off = sums.numerator - values * sums.denominator
        rounding = 1e-12 * np.abs(sums.numerator).max(axis=0, initial=0.0)
        influence = np.where(np.abs(off) > rounding, off, 0.0) / total
    influence = np.where(np.isfinite(values), np.nan_to_num(influence), 0.0)
    return Portion(values, influence, held, np.count_nonzero(held, axis=0), sums)


def of_linears(found: list[Linear], held: Flags, deciding: NDArray[np.intp]) -> Portion:
    """Put linear estimates of the same patients side by side."""
    values = np.array([linear.value for linear in found])
    influence = np.stack([linear.influence for linear in found], axis=1)
    return Portion(values, influence, held & ~np.isnan(values), deciding)


def minus(first: Portion, second: Portion) -> Portion:
    """The difference of paired estimates: the same patients, column by column."""
    held = first.held | second.held
    deciding = np.minimum(first.deciding, second.deciding)
    influence = first.influence - second.influence
    # Patients who all changed alike differ by rounding only, which is no spread.
    sizes = np.maximum(np.abs(first.influence), np.abs(second.influence)).max(axis=0, initial=0.0)
    influence = np.where(np.abs(influence) > 1e-12 * sizes, influence, 0.0)
    with np.errstate(invalid="ignore"):
        values = first.values - second.values
    return Portion(values, influence, held, deciding)


def column(portion: Portion, places: list[int]) -> Portion:
    """Some of the columns; the sums are left behind."""
    return Portion(
        portion.values[places],
        portion.influence[:, places],
        portion.held[:, places],
        portion.deciding[places],
    )


def beside(portions: list[Portion]) -> Portion:
    """All columns of several portions of the same patients."""
    return Portion(
        np.concatenate([each.values for each in portions]),
        np.concatenate([each.influence for each in portions], axis=1),
        np.concatenate([each.held for each in portions], axis=1),
        np.concatenate([each.deciding for each in portions]),
    )
