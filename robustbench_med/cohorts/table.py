"""The CSV of a cohort: its rows, the filter on them, and the ids and paths they may hold."""

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from robustbench_med.cohorts.labels import plain
from robustbench_med.components import suggest
from robustbench_med.errors import InputError

ANY = "*"
Where = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        line: Where it ends in the file, counted from 1.
        cells: Per column, without surrounding blanks; empty where nothing is recorded.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV in memory.

    Attributes:
        path: Of the file.
        header: Column names, in order.
        rows: In order.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    def place(self, row: Row) -> str:
        """Say where `row` stands, for messages."""
        return f"{self.path.name} line {row.line}"

    def unknown(self, asked: Sequence[tuple[str, str]]) -> list[str]:
        """Complain of every (who asks, column) whose column the table lacks."""
        return [
            f"{who}: {self.path} has no column {column!r}; {suggest(column, self.header)}"
            for who, column in asked
            if column not in self.header
        ]


def read_table(path: Path) -> Table:
    """Read a UTF-8 CSV with a header line.

    Raises:
        InputError: If it is missing or no such CSV, repeats a column, has a line of another
            length than its header, or has no rows.
    """
    if not path.is_file():
        raise InputError(f"table: {path}: no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(f"table: {path}: expected a CSV in UTF-8: {error}") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise InputError(f"table: {path}: expected a header and at least one row, got {len(lines)}")
    header = lines[0][1]
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"table: {path}: expected commas between the columns, got semicolons; "
                         "save it as a CSV with commas, in UTF-8")  # fmt: skip
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise InputError(f"table: {path}: columns {repeated} stand there more than once")
    ragged = [number for number, cells in lines if len(cells) != len(header)]
    if ragged:
        raise InputError(
            f"table: {path}: expected {len(header)} cells a line, got another number "
            f"in lines {ragged[:5]}"
        )
    rows = tuple(Row(n, dict(zip(header, cells, strict=True))) for n, cells in lines[1:])
    return Table(path, tuple(header), rows)


def kept(table: Table, where: Where) -> tuple[Row, ...]:
    """Keep the rows whose columns have one of the stated values; `"*"` is any but empty.

    Raises:
        InputError: If no row is left.
    """
    rows = table.rows
    for column, values in where.items():
        several = (
            values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
        )
        wanted = {plain(value) for value in several}
        rows = tuple(row for row in rows if _matches(row.cells[column], wanted))
        if not rows:
            found = sorted({row.cells[column] for row in table.rows})[:10]
            raise InputError(
                f"where: no row of {table.path} is left at {column} = {sorted(wanted)}; "
                f"the column holds {found}"
            )
    return rows


def _matches(cell: str, wanted: set[str]) -> bool:
    return plain(cell) in wanted or (ANY in wanted and bool(cell))


def id_problem(kind: str, value: str) -> str | None:
    """Say what is wrong with a case or patient id; None if nothing is."""
    if not value:
        return f"{kind} id is empty"
    if any(unicodedata.category(letter).startswith("C") for letter in value):
        return f"{kind} id {value!r} holds a control character"
    if kind == "case" and ("/" in value or "\\" in value or ".." in value):
        return f"case id {value!r} holds '/', '\\' or '..'"
    return None


def path_problem(column: str, text: str) -> str | None:
    """Say why a cell is no path inside the cohort's folder; None if it is one."""
    if not text:
        return f"{column} is empty; drop such rows with where"
    outside = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor
    if outside or ".." in text.replace("\\", "/").split("/"):
        return f"{column}: {text!r} leaves the folder"
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        return f"{column}: {text!r} holds a control character"
    return None
