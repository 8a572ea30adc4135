"""What is asked about a case, and how a table states the answer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_med.cases import Task, TaskKind
from robustbench_med.cohorts.attribute import number
from robustbench_med.cohorts.labels import Labels, LabelSchema, label_schema, mask_schema, plain
from robustbench_med.components import suggest
from robustbench_med.errors import InputError

KINDS = ("classification", "multilabel", "regression", "segmentation")
Values = tuple[float, ...]


def read_task(
    kind: TaskKind, labels: Labels | None, targets: Sequence[str]
) -> tuple[Task, LabelSchema | None]:
    """Return the task, with the label schema where its kind has one.

    Raises:
        InputError: If a folder cannot state that kind, or `labels` does not suit it.
    """
    if kind not in KINDS:
        raise InputError(f"task: a folder states no {kind!r}; {suggest(str(kind), KINDS)}")
    if kind in ("multilabel", "regression"):
        if labels is not None:
            raise InputError(f"labels: {kind} has none; the target columns name the outputs")
        return Task(kind, tuple(targets)), None
    if labels is None:
        raise InputError(f"labels: {kind} needs class names with stored values, or a schema's name")
    if len(targets) > 1:
        raise InputError(f"columns: {kind} has one target column, got {list(targets)}")
    if kind == "classification":
        schema = label_schema(labels)
        return Task("classification", schema.names), schema
    schema = mask_schema(labels)
    return Task("segmentation", schema.names), schema


def target_values(task: Task, schema: LabelSchema | None, cells: Sequence[str]) -> Values:
    """Read a row's target cells: a class index, flags, numbers, or nothing for a mask.

    Raises:
        InputError: If a cell is empty or holds no such thing.
    """
    if task.kind == "segmentation":
        return ()
    if not all(cells):
        raise InputError("the target is empty; drop such rows with where")
    if schema is not None:
        index = schema.index(cells[0])
        if index is None:
            raise InputError(f"target {cells[0]!r} is not in the label schema ({schema})")
        return (index,)
    if task.kind == "multilabel":
        foreign = [cell for cell in cells if plain(cell) not in ("0", "1")]
        if foreign:
            raise InputError(f"targets must be 0 or 1, got {foreign}")
        return tuple(int(plain(cell)) for cell in cells)
    values = [number(cell) for cell in cells]
    if None in values:
        raise InputError(f"targets must be numbers, got {list(cells)}")
    return tuple(float(value) for value in values if value is not None)


def target_tensor(task: Task, values: Values) -> Tensor:
    """Return the class index `()`, flags `(k,)` or float32 numbers `(k,)`."""
    if task.kind == "classification":
        return torch.tensor(int(values[0]))
    if task.kind == "multilabel":
        return torch.tensor([int(value) for value in values])
    return torch.tensor(values, dtype=torch.float32)
