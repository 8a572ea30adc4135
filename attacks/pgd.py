"""Projected gradient ascent on the task's loss."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import (
    case_loss,
    loss_gradient,
    on_support,
    per_case,
    steepest,
)
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.projections import corner_l1
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm


@dataclass(frozen=True)
class Pgd:
    """Climb the loss step by step, back into the ball after each, and keep the best image seen.

    Each case gets the iterate of highest loss over all steps and restarts, which need not be
    the last one; a case whose loss is never a number keeps its clean image. The loss comes
    with the gradient, so this costs one forward pass a restart, for the last iterate. A
    heuristic: that it finds nothing proves nothing.

    Under l1 a step goes towards the corner of ball and bounds that lies farthest along the
    slope: the voxels of the steepest slopes, as many as hold the radius. The single steepest
    voxel cannot take it all where bounds are active.

    Attributes:
        steps: Gradient evaluations per case and restart, at least 1.
        step_size: Length of one step, as a fraction of the radius, above 0.
        restarts: Searches from different random starts, at least 1.
        random_start: Whether to start anywhere in the ball instead of at the clean image.
        objective: What to raise: the name or the table of a listed objective, or one itself.

    Source: Madry et al., ICLR 2018, section 2.1, arXiv:1706.06083. Deviations: the best iterate
    is kept instead of the last; under l2 and l1 the start is uniform in the ball. Under l1: Frank
    and Wolfe, Naval Research Logistics Quarterly 3 (1956), with steps of one length.
    """

    steps: int = 40
    step_size: float = 0.1
    restarts: int = 1
    random_start: bool = True
    objective: Asked = "task"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))
        check_counts("pgd", self, "steps", "restarts")
        size: object = self.step_size
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size < math.inf:
            raise InputError(f"pgd: step_size must be above 0 and finite, got {size!r}")
        if self.restarts > 1 and not self.random_start:
            raise InputError("pgd: restarts from the clean image repeat one search; got "
                             f"restarts = {self.restarts} with random_start = false")  # fmt: skip

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the model gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        if ball.eps == 0:
            return batch.image
        goal, best = resolved(self.objective), batch.image
        highest = torch.full((len(batch),), -torch.inf, device=best.device)
        length = self.step_size * ball.radius(batch.image, batch.context)
        pull = ball.around(batch.image, batch.context)
        for _ in range(self.restarts):
            image = pull(self._start(batch, ball, rng))
            for _ in range(self.steps):
                loss, gradient = loss_gradient(model, batch, image, goal)
                best, highest = _better(image, loss, best, highest)
                slope = on_support(gradient, batch, ball)
                if ball.norm == "l1":
                    step = _to_corner(slope, image, batch, ball, length)
                else:
                    step = steepest(slope, ball.norm).mul_(length)
                image = pull(step.add_(image))  # a step is ours to write into
            best, highest = _better(image, case_loss(model, batch, image, goal), best, highest)
        return best

    def _start(self, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        if not self.random_start:
            return batch.image
        radius = ball.radius(batch.image, batch.context)
        return batch.image + radius * anywhere(batch.image, ball, rng)


def _to_corner(slope: Tensor, image: Tensor, batch: Batch, ball: Ball, length: Tensor) -> Tensor:
    """Step of l1 length `length`, or shorter to end at the corner, `(b, c, *s)`."""
    clean = batch.image
    radius = ball.radius(clean, batch.context).flatten(start_dim=1)
    corner = corner_l1(slope.flatten(start_dim=1), radius, *ball.reach(clean))
    way = corner.view_as(image) - (image - clean)
    return way * (length / per_case_norm(way, "l1").clamp(min=1e-30)).clamp(max=1)


def anywhere(image: Tensor, ball: Ball, rng: CaseRng) -> Tensor:
    """Uniform in the unit ball around 0, `(b, c, *s)`."""
    if ball.norm == "linf":
        return rng.uniform_like(image)
    if ball.norm == "l1":
        direction = rng.uniform_like(image)
        direction = direction.sign() * -direction.abs().clamp(min=1e-12).log()
    else:
        direction = rng.normal_like(image)
    share = rng.uniform().to(image) ** (1 / image[0].numel())
    return direction * per_case(share, image) / per_case_norm(direction, ball.norm)


def _better(image: Tensor, loss: Tensor, best: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    higher = loss > highest
    return image.where(per_case(higher, image), best), loss.where(higher, highest)
