"""What is recorded of the patients of two splits, one row per patient, ready to be compared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.cases import Attribute
from robustbench_med.overlap.picture import Floats
from robustbench_med.overlap.seen import Seen

Flags = NDArray[np.bool_]
MOST_VALUES = 20
FEW_NUMBERS = 12
MISSING = "not recorded"
OTHERS = "other values"
IDS = ("case_id", "patient_id", "split")


@dataclass(frozen=True, eq=False)
class Units:
    """The patients of two splits; one who is in both is two units.

    Attributes:
        of_case: `(n,)`, unit of each case, the test split's cases first.
        in_test: `(p,)`, the split of each unit.
        patient: `(p,)`, a number per id: equal for the two units of one patient.
    """

    of_case: NDArray[np.int64]
    in_test: Flags
    patient: NDArray[np.int64]

    @classmethod
    def of(cls, test: Seen, train: Seen) -> "Units":
        """Number the patients of each split."""
        numbers: dict[tuple[bool, str], int] = {}
        keys = [(True, p) for p in test.patient_ids] + [(False, p) for p in train.patient_ids]
        of_case = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
        ids: dict[str, int] = {}
        patient = np.array([ids.setdefault(p, len(ids)) for _, p in numbers], dtype=np.int64)
        return cls(of_case, np.array([where for where, _ in numbers], dtype=bool), patient)


@dataclass(frozen=True, eq=False)
class Trait:
    """One attribute, label or feature of all patients.

    Attributes:
        name: As recorded.
        values: Names of the values; empty for a number.
        columns: `(p, k)`, each patient's shares of the values over their cases; for a number
            `(p, 2)`, the mean over their cases and 1, or 0 and 0 where it is not known.
    """

    name: str
    values: tuple[str, ...]
    columns: Floats

    def of(self, chosen: Flags) -> "Trait":
        """Return the same of some of the patients."""
        return Trait(self.name, self.values, self.columns[chosen])

    @property
    def known(self) -> Flags:
        """`(p,)`, patients of whom anything is known."""
        return np.asarray(self.columns.sum(axis=1) > 0) if self.values else self.columns[:, 1] > 0

    @property
    def varies(self) -> bool:
        """Whether two patients differ by more than rounding."""
        if self.values:
            return len(self.values) > 1
        sizes = self.columns[self.known, 0]
        return len(sizes) > 1 and bool(np.ptp(sizes) > 1e-9 * np.abs(sizes).max())


def traits_of(rows: Sequence[Mapping[str, Attribute]], units: Units) -> list[Trait]:
    """Make a trait of everything that the cases' rows name and that is not the same for all.

    Where a number is not recorded of every case, whether it is, is a trait of its own.
    """
    made = []
    for name in dict.fromkeys(name for row in rows for name in row if name not in IDS):
        values = [row.get(name) for row in rows]
        trait = trait_of(name, values, units)
        made.append(trait)
        if not trait.values and any(_is_missing(value) for value in values):
            told = ["no" if _is_missing(value) else "yes" for value in values]
            made.append(trait_of(f"{name} recorded", told, units))
    return [trait for trait in made if trait.varies]


def trait_of(name: str, values: Sequence[Attribute], units: Units) -> Trait:
    """Make a trait from one value per case.

    Texts, flags and at most 12 different whole numbers are compared value by value: the 20 most
    frequent ones, the rest together, and those not recorded. Other numbers by size.
    """
    known = [None if _is_missing(value) else value for value in values]
    different = {value for value in known if value is not None}
    if different and _are_sizes(different):
        return Trait(name, (), _means([None if v is None else float(v) for v in known], units))
    texts = [MISSING if value is None else str(value) for value in known]
    counts = Counter(texts)
    common = [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept = common[:MOST_VALUES]
    place = {value: i for i, value in enumerate(kept)}
    indices = np.array([place.get(text, len(kept)) for text in texts], dtype=np.int64)
    named = (*kept, OTHERS) if len(common) > len(kept) else tuple(kept)
    columns = np.zeros((len(units.in_test), len(named)))
    np.add.at(columns, (units.of_case, indices), 1.0)
    cases = columns.sum(axis=1, keepdims=True)
    return Trait(name, named, columns / np.maximum(cases, 1))


def _is_missing(value: Attribute) -> bool:
    return value is None or value != value  # noqa: PLR0124 (NaN)


def _are_sizes(different: set[str | int | float | bool]) -> bool:
    if any(isinstance(value, str | bool) for value in different):
        return False
    return any(isinstance(value, float) for value in different) or len(different) > FEW_NUMBERS


def _means(values: Sequence[float | None], units: Units) -> Floats:
    total = np.zeros((len(units.in_test), 2))
    for unit, value in zip(units.of_case.tolist(), values, strict=True):
        if value is not None:
            total[unit] += (value, 1.0)
    known = total[:, 1] > 0
    means = np.divide(total[:, 0], total[:, 1], out=np.zeros(len(total)), where=known)
    return np.stack([means, known.astype(np.float64)], axis=1)
