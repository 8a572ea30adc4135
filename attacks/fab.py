"""The nearest image that the model gets wrong, plane by plane; kept if it lies in the ball."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import answer_gradient, per_case
from robustbench_med.attacks.hyperplane import onto_plane
from robustbench_med.attacks.margins import decides, easiest, wrongness
from robustbench_med.attacks.queries import wrong_now
from robustbench_med.attacks.success import select, where_open
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

_LAST_STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Fab:
    """Go to the plane where the linearised answer turns wrong, by the shortest way in the bounds.

    Targeted: for each of the most likely wrong classes in turn (the flags nearest to their
    thresholds, for multilabel), as the ball's radius plays no part in the way. A case returns the
    nearest wrong image found if that lies in the ball, and its clean image otherwise; it is done
    with after the first class or start that leads into the ball. Unlike an ascent it needs no step
    size, and does not care how steep the logits are. A heuristic: that it finds nothing proves
    nothing.

    Attributes:
        steps: Planes per case, class and start, at least 1.
        targets: Wrong classes that are tried, at most; at least 1.
        restarts: Starts, at least 1; the first from the clean image, others from random places in
            half of the ball.
        overshoot: By how much more than the way to the plane is gone, at least 1.
        backward: What is kept of a wrong image's distance for the next step, above 0, below 1.
        pull: Largest weight of the way from the clean image in that from the present one, 0 to 1.

    Source: Croce and Hein, ICML 2020, algorithm 1, arXiv:1907.02044, targeted as in AutoAttack
    (arXiv:2003.01690); 1.05, 0.9 and 0.1 are theirs. Deviation: in place of a final line search
    five projections of the clean image onto the plane at the best image found.
    """

    steps: int = 100
    targets: int = 9
    restarts: int = 1
    overshoot: float = 1.05
    backward: float = 0.9
    pull: float = 0.1

    def __post_init__(self) -> None:
        check_counts("fab", self, "steps", "targets", "restarts")
        if not 1 <= self.overshoot < math.inf:
            raise InputError(f"fab: overshoot must be at least 1 and finite, got {self.overshoot}")
        if not 0 < self.backward < 1:
            raise InputError(f"fab: backward must be above 0 and below 1, got {self.backward}")
        if not 0 <= self.pull <= 1:
            raise InputError(f"fab: pull must be from 0 to 1, got {self.pull}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is neither classification nor multilabel, or the model
                gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        decides("fab", model.task)
        if ball.eps == 0:
            return batch.image
        with torch.no_grad():
            output = model(batch.image, batch.context)
        aims = easiest(output, batch.target, model.task)[:, : self.targets]
        best, done = batch.image.clone(), wrong_now(model.task, output, batch.target)
        radius = ball.radius(batch.image, batch.context).flatten()
        for start in range(self.restarts):
            for aim in aims.unbind(dim=1):
                rows = where_open(done)
                if not len(rows):
                    return best
                image = batch.image if start == 0 else _somewhere(batch, ball, rng)
                walk = _Walk(model, select(batch, rows), ball, aim[rows])
                found, distance = self._nearest(walk, image[rows])
                done[rows] = distance <= radius[rows]
                best[rows] = found.where(per_case(done[rows], found), best[rows])
        return best

    def _nearest(self, walk: "_Walk", image: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest wrong images found, and their distances `(b,)`, infinite where none was."""
        clean = walk.batch.image
        best, nearest = clean, torch.full_like(clean.flatten(start_dim=1)[:, 0], math.inf)
        for _ in range(self.steps):
            value, slope = walk.plane(image)
            near, far = walk.moves(image, value, slope)
            ahead, back = (per_case_norm(move, walk.ball.norm) for move in (near, far))
            weight = (ahead / (ahead + back)).nan_to_num(nan=0.0).clamp(max=self.pull)
            image = walk.inside((1 - weight) * (image + self.overshoot * near)
                                + weight * (clean + self.overshoot * far))  # fmt: skip
            wrong = walk.wrong(image)
            best, nearest = walk.nearer(image, wrong, best, nearest)
            image = torch.where(per_case(wrong, image), clean + self.backward * (image - clean),
                                image)  # fmt: skip
        for beyond in _LAST_STEPS:
            value, slope = walk.plane(best)
            _, far = walk.moves(best, value, slope)
            tried = walk.inside(clean + (1 + beyond) * far)
            wrong = walk.wrong(tried) & nearest.isfinite()
            best, nearest = walk.nearer(tried, wrong, best, nearest)
        return best, nearest


@dataclass(frozen=True)
class _Aim:
    """How wrong the answer would be in one class of each case, or one flag."""

    classes: Tensor

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        return wrongness(output, batch.target, task).gather(1, self.classes[:, None]).squeeze(1)


@dataclass(frozen=True)
class _Walk:
    """Steps of some cases, each towards a class of its own."""

    model: Model
    batch: Batch
    ball: Ball
    aim: Tensor

    def plane(self, image: Tensor) -> tuple[Tensor, Tensor]:
        _, value, slope = answer_gradient(self.model, self.batch, image, _Aim(self.aim))
        return value, slope

    def moves(self, image: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Shortest moves to the plane, from the image and from the clean one."""
        clean, (low, high) = self.batch.image, self._box()
        there = (slope * (clean - image)).flatten(start_dim=1).double().sum(dim=1).to(value)
        return (onto_plane(image, slope, value, low, high, self.ball.norm),
                onto_plane(clean, slope, value + there, low, high, self.ball.norm))  # fmt: skip

    def inside(self, image: Tensor) -> Tensor:
        return image.clamp(*self._box())

    def _box(self) -> tuple[Tensor, Tensor]:
        clean = self.batch.image
        low, high = (torch.full_like(clean, end) for end in self.ball.bounds)
        if self.ball.support is None:
            return low, high
        free = self.batch.context[self.ball.support].to(clean) != 0
        return low.where(free, clean), high.where(free, clean)

    @torch.no_grad()
    def wrong(self, image: Tensor) -> Tensor:
        output = self.model(image, self.batch.context)
        return wrong_now(self.model.task, output, self.batch.target)

    def nearer(
        self, image: Tensor, wrong: Tensor, best: Tensor, nearest: Tensor
    ) -> tuple[Tensor, Tensor]:
        distance = per_case_norm(image - self.batch.image, self.ball.norm).flatten()
        better = wrong & (distance < nearest)
        return image.where(per_case(better, image), best), distance.where(better, nearest)


def _somewhere(batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
    """Images in half of the ball."""
    offset = rng.uniform_like(batch.image)
    offset = offset / per_case_norm(offset, ball.norm)
    radius = ball.radius(batch.image, batch.context)
    return ball.project(batch.image + radius / 2 * offset, batch.image, batch.context)
