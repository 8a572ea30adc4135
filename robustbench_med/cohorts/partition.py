"""Which split a patient belongs to."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.cohorts.table import Row
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
        key = hashlib.sha256(f"{self.seed}\x1f{patient_id}".encode()).digest()
        place = int.from_bytes(key[:8], "big") / 2**64
        edge = 0.0
        for name, share in self.shares.items():
            edge += share
            if place < edge:
                return name
        return list(self.shares)[-1]

    def names(self, rows: Sequence[Row]) -> list[str]:  # noqa: ARG002 (as `Recorded.names`)
        """Return the names of the splits."""
        return list(self.shares)


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


Partition = Drawn | Recorded


def read_partition(splits: Mapping[str, object] | None, split: str | None) -> Partition | None:
    """Read `{ column = "split" }` or `{ train = 0.6, val = 0.1, test = 0.3, seed = 0 }`.

    Raises:
        InputError: If it is neither, a share is not in (0, 1], the shares do not sum to 1, or
            `split` is asked for without any splits.
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
    return _drawn(splits)


def split_problems(names: Sequence[str], filled: set[str], split: str | None) -> list[str]:
    """Complain of an unknown split, or of one that is asked for and has no cases."""
    if split is not None and split not in names:
        return [f"split: no {split!r}; {suggest(str(split), names)}"]
    asked = names if split is None else [split]
    return [f"split: {name!r} has no cases" for name in asked if name not in filled]


def torn_patients(pairs: Sequence[tuple[str, str]]) -> list[str]:
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
    seed = splits.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"splits: seed must be an integer, got {seed!r}")
    shares: dict[str, float] = {}
    for name, share in splits.items():
        if name == "seed":
            continue
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"splits: {name}: expected a share in (0, 1], got {share!r}")
        shares[name] = float(share)
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise InputError(f"splits: shares must sum to 1, got {shares}")
    return Drawn(shares, seed)
