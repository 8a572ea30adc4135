"""Which split a patient belongs to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.cohorts.found import Found
from robustbench_med.cohorts.fraction import fraction
from robustbench_med.cohorts.held_out import KEYS, SIDES, HeldOut, read_held_out, read_seed
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.components import suggest
from robustbench_med.errors import InputError


@dataclass(frozen=True)
class Drawn:
    """Splits drawn by a hash, so that a patient's split never depends on the others.

    Attributes:
        shares: Of the patients, per split, in order; they sum to 1.
        seed: Another seed, another draw.
    """

    shares: Mapping[str, float]
    seed: int

    def of(self, row: Row, patient_id: str) -> str:  # noqa: ARG002 (as `Recorded.of`)
        """Return the patient's split."""
        place = fraction(self.seed, patient_id)
        edge = 0.0
        for name, share in self.shares.items():
            edge += share
            if place < edge:
                return name
        return list(self.shares)[-1]

    def names(self, rows: Sequence[Row]) -> list[str]:  # noqa: ARG002 (as `Recorded.names`)
        """Return the names of the splits."""
        return list(self.shares)

    def splits(self, found: Sequence[Found]) -> list[str]:
        """Return each case's split."""
        return [self.of(each.row, each.entry.patient_id) for each in found]

    def problems(self, table: Table, found: Sequence[Found]) -> list[str]:  # noqa: ARG002
        """Complain of nothing: a draw cannot tear a patient."""
        return []

    def absent(self, found: Sequence[Found]) -> list[str]:  # noqa: ARG002
        """Complain of nothing: no values are asked for."""
        return []

    def hint(self, found: Sequence[Found]) -> str:  # noqa: ARG002
        """Say nothing: every patient is in a split."""
        return ""


@dataclass(frozen=True)
class Recorded:
    """Splits as a column of the table states them.

    Attributes:
        column: Holds the name of the split.
    """

    column: str

    def of(self, row: Row, patient_id: str) -> str:  # noqa: ARG002 (as `Drawn.of`)
        """Return the row's split, empty where none is recorded."""
        return row.cells[self.column]

    def names(self, rows: Sequence[Row]) -> list[str]:
        """Return the names of the splits, sorted."""
        return sorted({row.cells[self.column] for row in rows} - {""})

    def splits(self, found: Sequence[Found]) -> list[str]:
        """Return each case's split, empty where none is recorded."""
        return [self.of(each.row, each.entry.patient_id) for each in found]

    def problems(self, table: Table, found: Sequence[Found]) -> list[str]:
        """Complain of every empty cell, and of every patient in more than one split."""
        splits = self.splits(found)
        empty = [
            f"{table.place(each.row)}: the split is empty"
            for each, split in zip(found, splits, strict=True)
            if not split
        ]
        pairs = [(f.entry.patient_id, split) for f, split in zip(found, splits, strict=True)]
        return empty + _torn_patients([(patient, split) for patient, split in pairs if split])

    def absent(self, found: Sequence[Found]) -> list[str]:  # noqa: ARG002
        """Complain of nothing: no values are asked for."""
        return []

    def hint(self, found: Sequence[Found]) -> str:  # noqa: ARG002
        """Say nothing: an empty cell is a problem of its own."""
        return ""


Partition = Drawn | Recorded | HeldOut


def read_partition(splits: Mapping[str, object] | None, split: str | None) -> Partition | None:
    """Read `{ column = "split" }`, `{ train = 0.6, val = 0.1, test = 0.3, seed = 0 }` or sides.

    Sides are `{ leave_out = { vendor = "B" } }` and `{ train_on = { sex = "F" } }`.

    Raises:
        InputError: If it is none of these, a share is not in (0, 1], the shares do not sum to
            1, or `split` is asked for without any splits.
    """
    if not splits:
        if split is not None:
            raise InputError(f"split: {split!r} is asked for, but no splits are stated")
        return None
    if not isinstance(splits, Mapping):
        raise InputError(f"splits: expected a column or shares, got {splits!r}")
    if "column" in splits:
        column = splits["column"]
        if len(splits) > 1 or not isinstance(column, str):
            raise InputError(f"splits: expected a column and nothing else, got {dict(splits)}")
        return Recorded(column)
    if any(key in splits for key in SIDES):
        return read_held_out(splits)
    return _drawn(splits)


def split_problems(
    names: Sequence[str], filled: set[str], split: str | None, hint: str
) -> list[str]:
    """Complain, with the partition's hint, of a split that is unknown or has no cases."""
    if split is not None and split not in names:
        return [f"split: no {split!r}; {suggest(str(split), names)}"]
    asked = names if split is None else [split]
    return [f"split: {name!r} has no cases{hint}" for name in asked if name not in filled]


def _torn_patients(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Complain of every patient who stands in more than one split, of (patient, split) pairs."""
    found: dict[str, set[str]] = {}
    for patient_id, split in pairs:
        found.setdefault(patient_id, set()).add(split)
    return [
        f"splits: patient {patient_id!r} is in more than one split: {sorted(splits)}"
        for patient_id, splits in found.items()
        if len(splits) > 1
    ]


def _drawn(splits: Mapping[str, object]) -> Drawn:
    seed = read_seed(splits.get("seed", 0))
    shares: dict[str, float] = {}
    for name, share in splits.items():
        if name == "seed":
            continue
        if isinstance(share, Mapping):
            raise InputError(f"splits: no {name!r}; {suggest(name, ['column', *KEYS])}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"splits: {name}: expected a share in (0, 1], got {share!r}")
        shares[name] = float(share)
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise InputError(f"splits: shares must sum to 1, got {shares}")
    return Drawn(shares, seed)
