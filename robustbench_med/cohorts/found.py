"""A row of the table beside what was read from it, and the values that patients have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.cohorts.entry import Entry
from robustbench_med.cohorts.labels import plain
from robustbench_med.cohorts.table import Row, Table

SHOWN = 3


@dataclass(frozen=True)
class Found:
    """An entry and the row it was read from.

    Attributes:
        row: For messages and its split.
        entry: What the row says.
    """

    row: Row
    entry: Entry


def value_of(found: Found, name: str) -> str | None:
    """Return the case's attribute or, if it has none of that name, its cell in that column.

    Numbers have one spelling (`1`, not `1.0`); None where nothing is recorded.
    """
    known = found.entry.attributes
    value = known[name] if name in known else found.row.cells[name] or None
    return None if value is None else plain(value)


def values_of_patients(found: Sequence[Found], name: str) -> Mapping[str, Mapping[str, int]]:
    """Per patient the values that are recorded, each with the line that first has it."""
    values: dict[str, dict[str, int]] = {each.entry.patient_id: {} for each in found}
    for each in found:
        value = value_of(each, name)
        if value is not None:
            values[each.entry.patient_id].setdefault(value, each.row.line)
    return values


def told(values: Mapping[str, int]) -> str:
    """Say which values stand in which lines: the first ones, then how many more."""
    texts = [f"{value!r} (line {line})" for value, line in values.items()]
    more = [f"{len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return " and ".join([*texts[:SHOWN], *more])


def contradictions(table: Table, found: Sequence[Found], names: Sequence[str]) -> list[str]:
    """Complain of every patient whose cases differ in an attribute that describes the person.

    A case that leaves the attribute out contradicts nothing.
    """
    return [
        f"{table.path.name}: patient {patient_id!r}: {name} is {told(values)}; mend the table, "
        f"or state an of_patient without {name!r}"
        for name in names
        for patient_id, values in values_of_patients(found, name).items()
        if len(values) > 1
    ]
