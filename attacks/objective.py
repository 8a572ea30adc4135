"""What an attack raises: one value per case, of the answers and the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from robustbench_med.cases import Batch, Task, TaskKind
from robustbench_med.components import made, suggest
from robustbench_med.errors import InputError, UnsupportedError


@runtime_checkable
class Objective(Protocol):
    """What an attack raises; a frozen dataclass of settings."""

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """Return one value per case, `(b,)`, that gradients flow from into the output.

        Args:
            output: The model's answers, as the task has them.
            batch: Targets and context; its images are the clean ones.
            task: The model's, for the names of classes.

        Raises:
            UnsupportedError: If it does not fit the task.
        """
        ...


Asked = str | Mapping[str, object] | Objective
"""An objective as a plan writes it: a name, a table with `use`, or the thing itself."""


@dataclass(frozen=True)
class TaskLoss:
    """The task's own loss: cross-entropy, or squared error; what training lowers."""

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        return task.loss(output, batch.target)


def resolved(asked: object) -> Objective:
    """Return the objective that an attack's setting asks for.

    Raises:
        InputError: If it is no objective, or its settings do not fit.
        UnknownNameError: If nothing has that name.
    """
    objective: Objective = made("objectives", "objective", asked)
    return objective


def require_task(who: str, task: Task, kinds: tuple[TaskKind, ...], instead: str) -> None:
    """Refuse a task that an objective or an attack says nothing about.

    Raises:
        UnsupportedError: Naming the task, the kinds that fit, and what to use `instead`.
    """
    if task.kind not in kinds:
        raise UnsupportedError(
            f"{who}: needs a task of {' or '.join(kinds)}, got {task.kind}; use {instead}"
        )


def class_index(label: str | int, task: Task) -> int:
    """Index of the class that an objective names.

    Raises:
        InputError: If the task has no such class.
    """
    if isinstance(label, str):
        if label not in task.classes:
            hint = suggest(label, task.classes)
            raise InputError(f"objective: no class {label!r}; {hint}")
        return task.classes.index(label)
    if isinstance(label, bool) or not 0 <= label < len(task.classes):
        raise InputError(f"objective: label must be 0 to {len(task.classes) - 1}, got {label!r}")
    return label
