"""Which rows of the table are loaded: a filter, then one split of the patients."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from robustbench_med.cohorts.entry import Entry
from robustbench_med.cohorts.found import Found
from robustbench_med.cohorts.held_out import HeldOut
from robustbench_med.cohorts.partition import (
    Partition,
    Recorded,
    read_partition,
    split_problems,
)
from robustbench_med.cohorts.problems import attempt
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.components import suggest
from robustbench_med.errors import raise_together


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

    def unknown(
        self, table: Table, asked: Sequence[tuple[str, str]], bands: Collection[str]
    ) -> list[str]:
        """Complain of every column that the table lacks.

        Args:
            table: With the columns.
            asked: (who asks, column) beside those of the selection.
            bands: Attributes that splits may go by although they are no columns.
        """
        splits = [self.partition.column] if isinstance(self.partition, Recorded) else []
        mine = [*(("where", c) for c in self.where), *(("splits", c) for c in splits)]
        problems = table.unknown([*asked, *mine])
        known = [*bands, *table.header]
        if isinstance(self.partition, HeldOut) and self.partition.attribute not in known:
            name = self.partition.attribute
            where = f"splits: {self.partition.key}: {table.path}"
            problems.append(f"{where} has no column and no band {name!r}; {suggest(name, known)}")
        return problems

    def of(self, table: Table, found: Sequence[Found], problems: list[str]) -> list[Found]:
        """Return what is loaded, each with its split among its attributes."""
        whole = not problems
        problems += _repeats(table, found)
        if self.partition is None:
            return list(found)
        problems += self.partition.problems(table, found)
        splits, names = self.partition.splits(found), self.partition.names(table.rows)
        # Where rows could not be read, what seems to be missing may stand in them.
        absent = self.partition.absent(found) if whole else []
        filled = set(names if absent or not whole else splits)
        problems += absent + split_problems(names, filled, self.split, self.partition.hint(found))
        return [
            replace(each, entry=_with_split(each.entry, split))
            for each, split in zip(found, splits, strict=True)
            if split and self.split in (None, split)
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
