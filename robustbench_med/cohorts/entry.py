"""One row of the table, understood: whose it is, which files it names, what is the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robustbench_med.cases import Attribute, Task, TaskKind
from robustbench_med.cohorts.attribute import Wanted, attributes_of, read_wanted
from robustbench_med.cohorts.labels import Labels, LabelSchema
from robustbench_med.cohorts.problems import attempt
from robustbench_med.cohorts.table import Row, id_problem, path_problem
from robustbench_med.cohorts.target import Values, read_task, target_values
from robustbench_med.components import suggest
from robustbench_med.errors import InputError

COLUMNS = ("case", "patient", "image", "target")

# What the keys `attributes`, `bands` and `of_patient` hold.
Known = tuple[Sequence[str], Mapping[str, Mapping[str, object]] | None, Sequence[str] | None]


@dataclass(frozen=True)
class Columns:
    """Where the table keeps what every case needs.

    Attributes:
        case: Case ids.
        patient: Patient ids.
        image: Image files.
        targets: Truth; several for multilabel and regression.
    """

    case: str
    patient: str
    image: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A row that stands on its own; its files are not opened yet.

    Attributes:
        case_id: Unique in the table.
        patient_id: Whom it belongs to.
        image: Its file.
        mask: Its file; None where the task has no masks.
        values: Class index, flags or numbers; empty where the task has masks.
        attributes: None where not recorded.
    """

    case_id: str
    patient_id: str
    image: Path
    mask: Path | None
    values: Values
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class Layout:
    """How rows are read.

    Attributes:
        root: Folder that the files' paths start from.
        columns: Where ids, images and targets are.
        task: What is asked.
        schema: Labels of a classification or segmentation.
        wanted: Attributes that are kept.
    """

    root: Path
    columns: Columns
    task: Task
    schema: LabelSchema | None
    wanted: Wanted

    @property
    def mask_schema(self) -> LabelSchema | None:
        """Labels of the masks; None where the task has no masks."""
        return self.schema if self.task.kind == "segmentation" else None

    def asked(self) -> list[tuple[str, str]]:
        """Return (who asks, column) for each column this needs."""
        names = [self.columns.case, self.columns.patient, self.columns.image]
        bands = [(f"bands: {name}", band.column) for name, band in self.wanted.bands.items()]
        return [
            *(("columns", name) for name in (*names, *self.columns.targets)),
            *(("attributes", name) for name in self.wanted.columns),
            *bands,
        ]

    def entry(self, row: Row, numeric: frozenset[str]) -> Entry:
        """Read a row, its `numeric` attributes as numbers.

        Raises:
            InputError: With a line for everything that is wrong with it.
        """
        problems: list[str] = []
        cells, columns = row.cells, self.columns
        known = attributes_of(row, self.wanted.columns, numeric)
        for name, band in self.wanted.bands.items():
            known[name] = attempt(problems, partial(band.of, cells[band.column]), f"{name}: ")
        truth = [cells[column] for column in columns.targets]
        values = attempt(problems, partial(target_values, self.task, self.schema, truth))
        paths = [columns.image, *(columns.targets if self.mask_schema else ())]
        complaints = [
            id_problem("case", cells[columns.case]),
            id_problem("patient", cells[columns.patient]),
            *(path_problem(column, cells[column]) for column in paths),
        ]
        problems += filter(None, complaints)
        if problems or values is None:
            raise InputError("\n".join(problems))
        image, *masks = (self.root / cells[column] for column in paths)
        mask = masks[0] if masks else None
        return Entry(cells[columns.case], cells[columns.patient], image, mask, values, known)


def read_layout(
    root: Path,
    columns: Mapping[str, str | Sequence[str]],
    question: tuple[TaskKind, Labels | None],
    known: Known,
) -> Layout:
    """Read the keys `columns`, `task` and `labels`, and those of the attributes, of a plan.

    Raises:
        InputError: With a line for everything that is wrong with them.
    """
    problems: list[str] = []
    asked = attempt(problems, partial(read_columns, columns))
    targets = ("target",) if asked is None else asked.targets
    task = attempt(problems, partial(read_task, *question, targets))
    wanted = attempt(problems, partial(read_wanted, *known))
    if asked is None or task is None or wanted is None:
        raise InputError("\n".join(problems))
    return Layout(root, asked, *task, wanted)


def read_columns(columns: Mapping[str, str | Sequence[str]]) -> Columns:
    """Read `{ case = ..., patient = ..., image = ..., target = ... }`.

    Raises:
        InputError: If one is missing, unknown or not the name of a column.
    """
    if not isinstance(columns, Mapping):
        raise InputError(f"columns: expected a name for each of {COLUMNS}, got {columns!r}")
    problems = [f"columns: {key!r} is missing" for key in COLUMNS if key not in columns]
    problems += [f"columns: no {k!r}; {suggest(k, COLUMNS)}" for k in columns if k not in COLUMNS]
    names = {key: columns[key] for key in COLUMNS if key in columns}
    targets = _names(names.get("target", ""))
    texts = [name for key, name in names.items() if key != "target"]
    if not targets or not all(isinstance(name, str) for name in texts):
        problems.append(f"columns: expected names of columns, got {names}")
    if problems:
        raise InputError("\n".join(problems))
    case, patient, image = map(str, texts)
    return Columns(case, patient, image, targets)


def _names(value: object) -> tuple[str, ...]:
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, Sequence) or not all(isinstance(name, str) for name in several):
        return ()
    return tuple(several)
