"""What is known of a case: table columns as attributes, and bands of a number."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from robustbench_med.cases import Attribute
from robustbench_med.cohorts.age import years
from robustbench_med.cohorts.problems import attempt, refuse
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.components import suggest
from robustbench_med.errors import InputError, raise_together

RESERVED = ("case_id", "patient_id", "split", "z")
OF_PATIENT = ("sex", "ancestry", "ethnicity", "race")

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][-+]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True)
class Band:
    """Intervals of a number: low edge in, high edge out, the last one's high edge in.

    Attributes:
        column: Holds the number.
        edges: Increasing, at least two.
    """

    column: str
    edges: tuple[float, ...]

    def of(self, cell: str) -> str | None:
        """Return the interval's text, such as `40-60`; None for an empty cell.

        An age as DICOM writes it, such as `058Y` or `006M`, counts in years.

        Raises:
            InputError: If the cell holds no number and no age, or one outside the edges.
        """
        if not cell:
            return None
        value = number(cell)
        if value is None:
            value = years(cell)
        if value is None:
            raise InputError(
                f"{self.column}: expected a number, or an age such as 058Y, got {cell!r}"
            )
        for low, high in pairwise(self.edges):
            if low <= value < high or value == high == self.edges[-1]:
                return f"{low:g}-{high:g}"
        span = f"{self.edges[0]:g} to {self.edges[-1]:g}"
        raise InputError(
            f"{self.column}: expected {span}, got {cell!r}; mend or empty the cell, or add an edge"
        )


@dataclass(frozen=True)
class Wanted:
    """Which attributes are kept.

    Attributes:
        columns: Kept as they are.
        bands: Made from a number, by the attribute's name.
        of_patient: Those that describe the person, so that a patient's cases share them.
    """

    columns: tuple[str, ...]
    bands: Mapping[str, Band]
    of_patient: tuple[str, ...] = ()


def read_wanted(
    attributes: Sequence[str],
    bands: Mapping[str, Mapping[str, object]] | None,
    of_patient: Sequence[str] | None = None,
) -> Wanted:
    """Read the names of columns, and bands such as `age_band = { column = ..., edges = ... }`.

    Args:
        attributes: Columns.
        bands: By the attribute's name.
        of_patient: Some of these attributes; None for those of `OF_PATIENT` that are among them.

    Raises:
        InputError: If a name is taken, stated twice or unknown, or a band is not well formed.
    """
    bands = bands or {}
    listed = isinstance(attributes, list | tuple)
    texts = listed and all(isinstance(name, str) for name in attributes)
    if not texts or not isinstance(bands, Mapping):
        raise InputError(
            f"attributes: expected names of columns, and bands by name, got {attributes!r} "
            f"and {bands!r}"
        )
    names = [*attributes, *bands]
    problems = [f"attributes: the name {name!r} is taken" for name in names if name in RESERVED]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"attributes: {name!r} is stated more than once" for name in twice]
    made: dict[str, Band] = {}
    for name, settings in bands.items():
        band = attempt(problems, partial(_band, name, settings))
        if band is not None:
            made[name] = band
    personal = attempt(problems, partial(_of_patient, of_patient, names))
    refuse(problems)
    return Wanted(tuple(attributes), made, personal or ())


def number(text: str) -> int | float | None:
    """Read a plain decimal number; codes such as `007` and words such as `nan` are none."""
    if not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def numeric_columns(table: Table, columns: Sequence[str]) -> frozenset[str]:
    """Return those columns whose every recorded value is a number, over the whole table."""
    return frozenset(
        column
        for column in columns
        if all(number(row.cells[column]) is not None for row in table.rows if row.cells[column])
    )


def attributes_of(
    row: Row, columns: Sequence[str], numeric: frozenset[str]
) -> dict[str, Attribute]:
    """Return the row's attributes; None where the cell is empty."""
    cells = {column: row.cells[column] or None for column in columns}
    return {
        column: number(cell) if cell is not None and column in numeric else cell
        for column, cell in cells.items()
    }


def _of_patient(of_patient: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    if of_patient is None:
        return tuple(name for name in names if name in OF_PATIENT)
    listed = isinstance(of_patient, list | tuple)
    if not listed or not all(isinstance(name, str) for name in of_patient):
        raise InputError(f"of_patient: expected names of attributes, got {of_patient!r}")
    raise_together([
        f"of_patient: no attribute {name!r}; {suggest(name, names)}"
        for name in of_patient
        if name not in names
    ])  # fmt: skip
    return tuple(of_patient)


def _band(name: str, settings: Mapping[str, object]) -> Band:
    if not isinstance(settings, Mapping):
        raise InputError(f"bands: {name}: expected column and edges, got {settings!r}")
    for key in settings:
        if key not in ("column", "edges"):
            raise InputError(f"bands: {name}: no key {key!r}; {suggest(key, ['column', 'edges'])}")
    column, edges = settings.get("column"), settings.get("edges")
    if not isinstance(column, str) or not _increases(edges):
        raise InputError(
            f"bands: {name}: expected a column and at least two increasing edges, "
            f"got {column!r} and {edges!r}"
        )
    return Band(column, tuple(float(edge) for edge in edges))  # type: ignore[attr-defined]


def _increases(edges: object) -> bool:
    if not isinstance(edges, Sequence) or isinstance(edges, str) or len(edges) < 2:
        return False
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in edges):
        return False
    steps = pairwise(edges)
    return all(map(math.isfinite, edges)) and all(low < high for low, high in steps)
