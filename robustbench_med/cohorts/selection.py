"""Which rows of the table are loaded: a filter, then one split of the patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from robustbench_med.cohorts.entry import Entry
from robustbench_med.cohorts.partition import (
    Partition,
    Recorded,
    read_partition,
    split_problems,
    torn_patients,
)
from robustbench_med.cohorts.problems import attempt
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.errors import raise_together


@dataclass(frozen=True)
class Found:
    """An entry and the row it was read from.

    Attributes:
        row: For messages and its split.
        entry: What the row says.
    """

    row: Row
    entry: Entry


@dataclass(frozen=True)
class Selection:
    """What is loaded.

    Attributes:
        where: Values that a row must have, by column.
        partition: Of the patients; None where there are no splits.
        split: The one to load; None for all.
    """

    where: Mapping[str, object]
    partition: Partition | None
    split: str | None

    def asked(self) -> list[tuple[str, str]]:
        """Return (who asks, column) for each column this needs."""
        splits = [self.partition.column] if isinstance(self.partition, Recorded) else []
        return [*(("where", c) for c in self.where), *(("splits", c) for c in splits)]

    def of(self, table: Table, found: Sequence[Found], problems: list[str]) -> list[Found]:
        """Return what is loaded, each with its split among its attributes."""
        problems += _repeats(table, found)
        if self.partition is None:
            return list(found)
        splits = [self.partition.of(each.row, each.entry.patient_id) for each in found]
        problems += [
            f"{table.place(each.row)}: the split is empty"
            for each, split in zip(found, splits, strict=True)
            if not split
        ]
        pairs = [(f.entry.patient_id, split) for f, split in zip(found, splits, strict=True)]
        problems += torn_patients([(patient, split) for patient, split in pairs if split])
        problems += split_problems(self.partition.names(table.rows), set(splits), self.split)
        return [
            replace(each, entry=_with_split(each.entry, split))
            for each, split in zip(found, splits, strict=True)
            if self.split in (None, split)
        ]


def read_selection(
    where: Mapping[str, object] | None, splits: Mapping[str, object] | None, split: str | None
) -> Selection:
    """Read the keys `where`, `splits` and `split` of a plan.

    Raises:
        InputError: If one of them is not well formed.
    """
    problems: list[str] = []
    filters: object = {} if where is None else where
    if not isinstance(filters, Mapping):
        problems.append(f"where: expected values by column, got {where!r}")
        filters = {}
    partition = attempt(problems, partial(read_partition, splits, split))
    raise_together(problems)
    return Selection(filters, partition, split)


def _with_split(entry: Entry, split: str) -> Entry:
    return replace(entry, attributes={**entry.attributes, "split": split})


def _repeats(table: Table, found: Sequence[Found]) -> list[str]:
    first: dict[str, Row] = {}
    return [
        f"{table.place(each.row)}: case id {each.entry.case_id!r} repeats line {earlier.line}"
        for each in found
        if (earlier := first.setdefault(each.entry.case_id, each.row)) is not each.row
    ]
