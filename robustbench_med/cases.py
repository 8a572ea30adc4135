"""What is tested: a case, cases that share a task, and a batch of them."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, get_args, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.errors import InputError

Bounds = tuple[float, float]
Attribute = str | int | float | bool | None
T = TypeVar("T")
TaskKind = Literal[
    "classification", "multilabel", "segmentation", "regression", "reconstruction",
    "super_resolution",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is attacked together: a slice, a volume, or a whole patient.

    Attributes:
        case_id: Unique in its cohort.
        patient_id: Whom it belongs to; intervals resample patients.
        image: `(c, *s)`, what the model is given and an adversary may change.
        target: Truth: class index `()`, flags `(k,)`, mask `(*s)` of class indices, or values.
        context: Tensors the model or a probe needs and no adversary changes (masks, maps).
        attributes: Sex, age, site, ...; None or absent where not recorded.
    """

    case_id: str
    patient_id: str
    image: Tensor
    target: Tensor
    context: Mapping[str, Tensor] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("case_id", "patient_id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InputError(f"case: {name} must be a text that is not empty, got {value!r}")
        object.__setattr__(self, "image", torch.as_tensor(self.image))
        object.__setattr__(self, "target", torch.as_tensor(self.target))
        context = {name: torch.as_tensor(value) for name, value in self.context.items()}
        object.__setattr__(self, "context", context)
        if self.image.ndim < 1 or not self.image.is_floating_point():
            raise InputError(
                f"case {self.case_id!r}: image must be floating point, (c, *s), "
                f"got {self.image.dtype} {tuple(self.image.shape)}"
            )


@dataclass(frozen=True)
class CaseSummary:
    """What the tables and digests need of a case, without its pixels."""

    case_id: str
    patient_id: str
    attributes: Mapping[str, Attribute]
    digest: str


@runtime_checkable
class Summarised(Protocol):
    """Cases that know their summaries without being decoded again."""

    def summary(self, index: int) -> CaseSummary:
        """Return what `summarise(self[index])` would."""
        ...


@dataclass(frozen=True)
class Task:
    """What is asked of a model.

    Attributes:
        kind: Which shapes outputs and targets have.
        classes: Names of classes or outputs, with units where they have any; may be empty
            for reconstruction and super-resolution.
    """

    kind: TaskKind
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.kind not in get_args(TaskKind):
            raise InputError(f"task: kind must be one of {get_args(TaskKind)}, got {self.kind!r}")
        least = {"classification": 2, "segmentation": 2, "multilabel": 1, "regression": 1}
        if len(self.classes) < least.get(self.kind, 0):
            raise InputError(
                f"task: {self.kind} needs at least {least[self.kind]} class names, "
                f"got {self.classes}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise InputError(f"task: class names must differ, got {self.classes}")

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """What training lowers and an attack raises, one value per case, `(b,)`."""
        if self.kind == "classification":
            return F.cross_entropy(output, target, reduction="none")
        if self.kind == "segmentation":
            return _per_case(F.cross_entropy(output, target, reduction="none"))
        if self.kind == "multilabel":
            return _per_case(
                F.binary_cross_entropy_with_logits(output, target.to(output), reduction="none")
            )
        return _per_case((output - target).square())


def _per_case(values: Tensor) -> Tensor:
    return values.flatten(start_dim=1).mean(dim=1)


@dataclass(frozen=True)
class Batch:
    """Cases of one shape, stacked.

    Attributes:
        case_ids: In order.
        image: `(b, c, *s)`.
        target: `(b, ...)`.
        context: Each entry stacked to `(b, ...)`.
    """

    case_ids: tuple[str, ...]
    image: Tensor
    target: Tensor
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.case_ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on `device`."""
        context = {name: value.to(device) for name, value in self.context.items()}
        return Batch(self.case_ids, self.image.to(device), self.target.to(device), context)

    def __getitem__(self, index: int) -> "Batch":
        """Return the batch that holds only the case at `index`."""
        only = slice(index, index + 1)
        context = {name: value[only] for name, value in self.context.items()}
        return Batch(self.case_ids[only], self.image[only], self.target[only], context)


@dataclass(frozen=True)
class Cohort:
    """Cases that share a task and intensity bounds.

    Attributes:
        name: For reports.
        task: What is asked about every case.
        bounds: Lowest and highest legal intensity; may be infinite.
        cases: Read when asked for, so a cohort may exceed memory.
    """

    name: str
    task: Task
    bounds: Bounds
    cases: Sequence[Case]

    def __post_init__(self) -> None:
        low, high = self.bounds
        object.__setattr__(self, "bounds", (float(low), float(high)))
        if math.isnan(low) or math.isnan(high) or low >= high:
            raise InputError(f"cohort {self.name!r}: bounds must be low < high, got {self.bounds}")

    def __len__(self) -> int:
        return len(self.cases)

    def batches(self, size: int) -> Iterator[Batch]:
        """Group the cases into batches of at most `size` and of one shape each.

        Cases keep their order within a shape; at most `size` cases of each shape are held.
        """
        yield from batches(self.cases, range(len(self.cases)), size)

    def summary(self, index: int) -> CaseSummary:
        """Describe the case at `index` without its pixels."""
        if isinstance(self.cases, Summarised):
            return self.cases.summary(index)
        return summarise(self.cases[index])


def digest_of(summaries: Iterable[CaseSummary]) -> str:
    """Hash of all cases of a cohort, their ids and attributes."""
    digest = hashlib.sha256()
    for summary in summaries:
        digest.update(f"{summary.digest}{sorted(summary.attributes.items())}".encode())
    return digest.hexdigest()


def batches(cases: Sequence[Case], indices: Sequence[int], size: int) -> Iterator[Batch]:
    """Batches of the cases at `indices`, as `Cohort.batches` makes them."""
    if size < 1:
        raise InputError(f"batch size: expected at least 1, got {size}")
    chosen = (cases[index] for index in indices)
    yield from map(stack, grouped(chosen, size, shapes_of))


def grouped(items: Iterable[T], size: int, alike: Callable[[T], object]) -> Iterator[list[T]]:
    """Groups of at most `size` items that are `alike`, each as soon as it is full."""
    waiting: dict[object, list[T]] = {}
    for item in items:
        kind = alike(item)
        group = waiting.setdefault(kind, [])
        group.append(item)
        if len(group) == size:
            waiting[kind] = []
            yield group
    yield from filter(None, waiting.values())


def stack(cases: Sequence[Case]) -> Batch:
    """Stack cases of one shape."""
    context = {
        name: torch.stack([case.context[name] for case in cases]) for name in cases[0].context
    }
    return Batch(
        tuple(case.case_id for case in cases),
        torch.stack([case.image for case in cases]),
        torch.stack([case.target for case in cases]),
        context,
    )


def summarise(case: Case) -> CaseSummary:
    """Hash the case's ids and tensors and keep its attributes."""
    digest = hashlib.sha256(f"{case.case_id}\x1f{case.patient_id}".encode())
    tensors = {"image": case.image, "target": case.target, **case.context}
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return CaseSummary(case.case_id, case.patient_id, case.attributes, digest.hexdigest())


def shapes_of(case: Case) -> object:
    """Shapes of a case's tensors: only cases that agree in them fit into one batch."""
    if not case.context:
        return case.image.shape, case.target.shape
    context = tuple((name, value.shape) for name, value in sorted(case.context.items()))
    return case.image.shape, case.target.shape, context
