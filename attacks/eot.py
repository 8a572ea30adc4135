"""An attack on the mean answer of a model that answers at random."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.inner import Inner, attack_of
from robustbench_med.cases import Batch, Bounds, Task
from robustbench_med.model import Context, Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

_CASE = "eot: number of the case"
_SEEDS = 2**31


@dataclass(frozen=True)
class Eot:
    """Let an inner attack see the mean of several answers to each image, and its gradient.

    For models that add noise, drop units or crop at random when they answer. Every answer to a
    case comes from torch's random numbers seeded by the case's own stream, new at each call, and
    the global state is put back; so what is found repeats, whatever the batch. For that each
    answer is a call of its own on one case: a search costs `samples` times the cases of the batch
    as many calls. Randomness from elsewhere (numpy, `random`) does not repeat.

    Attributes:
        inner: The attack, by name, as a table, or itself.
        samples: Answers in a mean, at least 1.

    Source: Athalye et al., ICML 2018, section 4.2, arXiv:1802.00420. Deviation: the objective of
    the mean answer is raised, not the mean of the objective; they agree where it is linear.
    """

    inner: Inner = "pgd"
    samples: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", attack_of(self.inner))
        check_counts("eot", self, "samples")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`; raises what the inner attack raises."""
        if ball.eps == 0:
            return batch.image
        seeds = (rng.child("eot").uniform() * 2**24).long().tolist()
        # An inner attack may leave cases out, so that each carries its number along.
        numbers = torch.arange(len(batch), device=batch.image.device)
        context = {**batch.context, _CASE: numbers}
        numbered = Batch(batch.case_ids, batch.image, batch.target, context)
        return attack_of(self.inner)(_Mean(model, seeds, self.samples), numbered, ball, rng)


@dataclass(frozen=True)
class _Mean:
    """The mean answer, case by case, from seeds that go on with every call."""

    model: Model
    seeds: list[int]
    samples: int
    calls: Counter[int] = field(default_factory=Counter)

    @property
    def task(self) -> Task:
        return self.model.task

    @property
    def bounds(self) -> Bounds:
        return self.model.bounds

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`."""
        context = dict(context or {})
        numbers = context.pop(_CASE).tolist()
        means = []
        with _seeding():
            for row, number in enumerate(numbers):
                own = {name: value[row : row + 1] for name, value in context.items()}
                means.append(self._mean(image[row : row + 1], own, number))
        return torch.cat(means)

    def _mean(self, image: Tensor, context: Context, number: int) -> Tensor:
        answers = []
        for _ in range(self.samples):
            _seed((self.seeds[number] * 1_000_003 + self.calls[number]) % _SEEDS)
            self.calls[number] += 1
            answers.append(self.model(image, context))
        return torch.stack(answers).mean(dim=0)


@contextmanager
def _seeding() -> Iterator[None]:
    """Put the global random states of torch back in the end."""
    with torch.random.fork_rng(range(torch.cuda.device_count() if _on_gpu() else 0)):
        yield


def _seed(seed: int) -> None:
    # torch.manual_seed formats the stack for GPUs that are not there, which takes a millisecond.
    torch.default_generator.manual_seed(seed)
    if _on_gpu():
        torch.cuda.manual_seed_all(seed)


def _on_gpu() -> bool:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return started
