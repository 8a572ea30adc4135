"""The few cases that an attack's validity is asked on, and what a search does to them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch, Task
from robustbench_med.model import Model
from robustbench_med.probes import Attack
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

Objective = Callable[[Tensor, Batch, Task], Tensor]
NUMBER = "validity.number"
"""Entry of the context that says which case of the sample a row is, `(b,)`."""


@dataclass(frozen=True)
class Sample:
    """Cases that a model gets right, and what counts as harm to them.

    Attributes:
        batches: The cases, numbered from 0 in their context.
        clean: Harm without an attack, `(n,)`.
        objective: What the attack raises; harm where the task has no decision on a whole case.
    """

    batches: tuple[Batch, ...]
    clean: Tensor
    objective: Objective

    def __len__(self) -> int:
        return len(self.clean)

    def unbroken(self, harm: Tensor, task: Task) -> Tensor:
        """Which cases the attack's figure counts as withstood, `(n,)`: all, without a decision."""
        return harm == 0 if decides(task) else torch.ones_like(harm, dtype=torch.bool)

    def found_more(self, harm: Tensor, other: Tensor, slack: float) -> Tensor:
        """Which cases `other` harms and `harm` misses, or by `slack` less of it, `(n,)`."""
        risen, beyond = (harm - self.clean).clamp(min=0), other - self.clean
        noise = 1e-6 * (1 + self.clean.abs())
        return beyond > (1 + slack) * risen + noise


def task_objective(output: Tensor, batch: Batch, task: Task) -> Tensor:
    """Objective of an attack that names none: the task's loss."""
    return task.loss(output, batch.target)


def decides(task: Task) -> bool:
    """Whether an answer to the task is right or wrong as a whole."""
    return task.kind in ("classification", "multilabel")


@torch.no_grad()
def harm_of(model: Model, batch: Batch, image: Tensor, objective: Objective) -> Tensor:
    """1 where the decision is wrong and 0 where it is right, or the objective, `(b,)`, float64."""
    output = model(image, batch.context)
    if not decides(model.task):
        harm = objective(output, batch, model.task).nan_to_num(nan=-math.inf)
        return harm.double().cpu()
    if model.task.kind == "classification":
        wrong = output.argmax(dim=1) != batch.target
    else:
        wrong = ((output > 0) != (batch.target > 0)).any(dim=1)
    harm = wrong & output.isfinite().all(dim=1)  # no answer is no finding
    return harm.double().cpu()


def sample_of(model: Model, batches: Iterable[Batch], size: int, objective: Objective) -> Sample:
    """Return the first `size` cases whose clean answer is right, or that have no decision."""
    kept: list[Batch] = []
    clean: list[Tensor] = []
    for batch in batches:
        room = size - sum(map(len, kept))
        if room <= 0:
            break
        harm = harm_of(model, batch, batch.image, objective)
        right = harm == 0 if decides(model.task) else harm.isfinite()
        rows = torch.nonzero(right).flatten()[:room]
        if len(rows):
            kept.append(_numbered(batch, rows, sum(map(len, kept))))
            clean.append(harm[rows])
    return Sample(tuple(kept), torch.cat(clean) if clean else torch.empty(0), objective)


def _numbered(batch: Batch, rows: Tensor, first: int) -> Batch:
    ids = tuple(batch.case_ids[row] for row in rows.tolist())
    rows = rows.to(batch.image.device)
    context = {name: value[rows] for name, value in batch.context.items()}
    context[NUMBER] = torch.arange(first, first + len(ids), device=batch.image.device)
    return Batch(ids, batch.image[rows], batch.target[rows], context)


@dataclass(frozen=True)
class Trials:
    """Runs searches on a sample, as the probe of an attack does.

    Attributes:
        model: Under test: what is found is always put to this one.
        sample: Cases.
        seed: Of the run.
    """

    model: Model
    sample: Sample
    seed: int

    def __call__(self, name: str, attack: Attack, ball: Ball, *, on: Model | None = None) -> Tensor:
        """Harm that `attack` does within `ball`, `(n,)`; searched `on` another model if given.

        The search draws from streams called `name`.
        """
        return torch.cat([
            harm_of(
                self.model, batch, self._found(name, attack, ball, batch, on or self.model),
                self.sample.objective,
            )
            for batch in self.sample.batches
        ])  # fmt: skip

    def _found(self, name: str, attack: Attack, ball: Ball, batch: Batch, on: Model) -> Tensor:
        rng = CaseRng(self.seed, f"validity/{name}", batch.case_ids)
        found = attack(on, batch, ball, rng).detach()
        return ball.stored(found, batch.image, batch.context)

    def harm(self, images: Sequence[Tensor]) -> Tensor:
        """Harm of images, one tensor a batch, `(n,)`."""
        pairs = zip(self.sample.batches, images, strict=True)
        return torch.cat([
            harm_of(self.model, batch, image, self.sample.objective) for batch, image in pairs
        ])  # fmt: skip
