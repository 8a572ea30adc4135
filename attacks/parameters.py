"""What every search over a shift's parameters asks: how bad are these, and which way is worse."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.objective import Objective
from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.searching import Apply, Parameters, Ranges
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Question:
    """A model, a batch and a shift, asked at points of the unit cube: one point a case, `(b, d)`.

    A parameter whose range is a single value is held there and is no axis of the cube.

    Attributes:
        model: Under test.
        cases: How many there are in the batch.
        ranges: Lowest and highest value of each parameter.
        apply: Shifts the batch.
        goal: What is to be raised.
    """

    model: Model
    cases: int
    ranges: Ranges
    apply: Apply
    goal: Objective

    @property
    def axes(self) -> list[str]:
        """Parameters that are searched, in the order of the cube's axes."""
        return [name for name, (low, high) in self.ranges.items() if low < high]

    def parameters(self, points: Tensor) -> Parameters:
        """Parameters at points of the cube, `(b,)` each."""
        axes = self.axes
        return {
            name: (low + (high - low) * points[:, axes.index(name)]).clamp(low, high)
            if name in axes
            else torch.full((self.cases,), low)
            for name, (low, high) in self.ranges.items()
        }

    @torch.no_grad()
    def badness(self, points: Tensor) -> Tensor:
        """Objective of each case, `(b,)`, on the CPU."""
        return self._goal(points).cpu()

    def slope(self, points: Tensor) -> tuple[Tensor, Tensor] | None:
        """Objective and its gradient in the point, `(b, d)`; None where there is none."""
        points = points.detach().requires_grad_()
        gradient = None
        with torch.enable_grad():
            value = self._goal(points)
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value.sum(), points, allow_unused=True)
        if gradient is None:
            return None
        return value.detach().cpu(), gradient.nan_to_num_()

    def _goal(self, points: Tensor) -> Tensor:
        moved: Batch = self.apply(self.parameters(points))
        image = moved.image.clamp(*self.model.bounds)
        return self.goal(self.model(image, moved.context), moved, self.model.task)


@dataclass(frozen=True)
class Found:
    """The worst point of each case so far.

    Attributes:
        point: `(b, d)`, in the unit cube.
        badness: `(b,)`; minus infinity before anything was a number.
    """

    point: Tensor
    badness: Tensor

    def or_worse(self, point: Tensor, badness: Tensor) -> "Found":
        """Return the worse of both for each case."""
        worse = badness > self.badness
        return Found(
            point.where(worse.unsqueeze(1), self.point), badness.where(worse, self.badness)
        )


def middle(question: Question) -> Found:
    """Start from the middle of the cube: for many shifts, no change at all."""
    point = torch.full((question.cases, len(question.axes)), 0.5)
    nothing = torch.full((question.cases,), -torch.inf)
    return Found(point, nothing).or_worse(point, question.badness(point))


def sobol(question: Question, found: Found, count: int, rng: CaseRng) -> Found:
    """Ask at `count` Sobol points, turned by an offset of each case's own.

    Source: Sobol, USSR Comp. Math. Math. Phys. 7 (1967); Cranley and Patterson, SIAM J. Numer.
    Anal. 13 (1976), for the offset.
    """
    axes = len(question.axes)
    offset = rng.uniform(axes)
    engine = torch.quasirandom.SobolEngine(axes)  # type: ignore[no-untyped-call]
    for row in engine.draw(count):
        point = (row + offset).remainder(1)
        found = found.or_worse(point, question.badness(point))
    return found


def climb(question: Question, found: Found, count: int) -> Found:
    """Follow the slope for `count` evaluations; a case halves its step where it gets no worse."""
    point, step = found.point, torch.full((question.cases, 1), 0.25)
    ahead = torch.zeros_like(point)
    for _ in range(count):
        answer = question.slope(point)
        if answer is None:
            break
        worse = (answer[0] >= found.badness).unsqueeze(1)
        found = found.or_worse(point, answer[0])
        # A slope that leaves the cube must not drown those that stay in it.
        slope = answer[1].where((point + answer[1].sign()).clamp(0, 1) != point, 0)
        largest = slope.abs().amax(dim=1, keepdim=True)
        ahead = (slope / largest.clamp(min=torch.finfo(slope.dtype).tiny)).where(worse, ahead)
        step = step.where(worse, step / 2)
        point = (found.point + step * ahead).clamp(0, 1)
    return found
