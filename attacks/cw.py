"""The margin against the distance, weighed against each other anew until the answer turns."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import answer_gradient, per_case
from robustbench_med.attacks.margins import Margin, decides
from robustbench_med.attacks.queries import wrong_now
from robustbench_med.attacks.success import select, where_open
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, Pull


@dataclass(frozen=True)
class Cw:
    """Lower the distance and the margin together with Adam, and search for their weights.

    Under l2 the sum `(distance / radius)^2 + weight * max(margin + confidence, 0)` is lowered from
    the clean image, free of the ball; the weight grows tenfold until some image is wrong, and is
    halved between failure and success after that. A case is done with at its first wrong image in
    the ball; one that has none keeps its clean image. Under linf the distance has no slope to
    speak of, so the margin alone is lowered, inside the ball, and each case gets the image of
    smallest margin. Draws no random numbers.

    Attributes:
        steps: Gradient evaluations per case and weight, at least 1.
        searches: Weights that are tried under l2, at least 1.
        weight: The first one, per margin of the clean image, above 0.
        confidence: Margin beyond the turn at which the sum stops to pull, at least 0.
        step_size: Largest first step, as a fraction of the radius, above 0.

    Source: Carlini and Wagner, S&P 2017, sections V and VI.A, arXiv:1608.04644. Deviations: images
    are clipped to the bounds after each step, where theirs move in the space of tanh: bounds may be
    infinite, and a voxel at a bound can move; distance and step are in units of the ball's
    radius, the margin in units of the clean image's; under linf a ball in place of their
    growing penalty.
    """

    steps: int = 100
    searches: int = 6
    weight: float = 1.0
    confidence: float = 0.0
    step_size: float = 0.05

    def __post_init__(self) -> None:
        check_counts("cw", self, "steps", "searches")
        for name in ("weight", "step_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(
                    f"cw: {name} must be above 0 and finite, got {getattr(self, name)}"
                )
        if not 0 <= self.confidence < math.inf:
            raise InputError(f"cw: confidence must be at least 0, got {self.confidence}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is neither classification nor multilabel, the ball is
                l1, or the model gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        del rng
        decides("cw", model.task)
        if ball.norm == "l1":
            raise UnsupportedError("cw: searches linf and l2 balls, got l1; use square")
        if ball.eps == 0:
            return batch.image
        with torch.no_grad():
            output = model(batch.image, batch.context)
        done, best = wrong_now(model.task, output, batch.target), batch.image.clone()
        unit = Margin()(output, batch, model.task).abs().clamp(min=1e-30)
        weight, low, high = (_each(batch, start) for start in (self.weight, 0.0, math.inf))
        for _ in range(self.searches if ball.norm == "l2" else 1):
            rows = where_open(done)
            if not len(rows):
                break
            best[rows], turned, done[rows] = self._descend(
                model, select(batch, rows), ball, weight[rows] / unit[rows]
            )
            high[rows] = weight[rows].where(turned, high[rows])
            low[rows] = weight[rows].where(~turned, low[rows])
            weight = torch.where(high.isfinite(), (low + high) / 2, 10 * low)
        return best

    def _descend(
        self, model: Model, batch: Batch, ball: Ball, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One weight: images, whether any was wrong, and whether that lies in the ball."""
        image = found = clean = batch.image
        radius, length = ball.radius(clean, batch.context), self._step(batch, ball)
        keep = _clipped(batch, ball)
        first, second = torch.zeros_like(image), torch.zeros_like(image)
        turned = inside = torch.zeros(len(batch), dtype=torch.bool, device=image.device)
        highest = _each(batch, -math.inf)
        for step in range(1, self.steps + 1):
            output, margin, slope = answer_gradient(model, batch, image, Margin())
            wrong = wrong_now(model.task, output, batch.target)
            better = ~inside & (margin > highest)
            if ball.norm == "l2":
                better = ~inside & wrong & (_length(image - clean) <= radius.flatten())
            found = image.where(per_case(better, image), found)
            highest = margin.where(better, highest)
            turned, inside = turned | wrong, inside | (wrong & better)
            if bool(inside.all()):
                break
            gradient = -slope * per_case((margin < self.confidence) * weight, slope)
            if ball.norm == "l2":
                gradient = gradient + 2 * (image - clean) / radius.square().clamp(min=1e-30)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            ahead = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-12)
            image = keep(image - length * ahead)
        return found, turned, inside

    def _step(self, batch: Batch, ball: Ball) -> Tensor:
        """Step of one voxel, `(b, 1, *1)`: all that may move share the fraction of the radius."""
        radius = ball.radius(batch.image, batch.context)
        if ball.norm == "linf":
            return self.step_size * radius
        free = torch.ones_like(batch.image) if ball.support is None else _free(batch, ball)
        return self.step_size * radius / per_case(_length(free.to(batch.image)), radius).clamp(1)


def _clipped(batch: Batch, ball: Ball) -> Pull:
    """Into the ball under linf; under l2 into its bounds and onto its support only."""
    clean = batch.image
    if ball.norm == "linf":
        return ball.around(clean, batch.context)
    if ball.support is None:
        return lambda image: image.clamp(*ball.bounds)
    free = _free(batch, ball)
    return lambda image: image.clamp(*ball.bounds).where(free, clean)


def _free(batch: Batch, ball: Ball) -> Tensor:
    return (batch.context[str(ball.support)].to(batch.image) != 0).expand_as(batch.image)


def _length(offset: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(offset.flatten(start_dim=1), dim=1)
    return length


def _each(batch: Batch, value: float) -> Tensor:
    return torch.full((len(batch),), value).to(batch.image)
