"""Whole-radius ascent: exact where the loss is a convex quadratic of the image."""

from dataclasses import dataclass

import torch
from torch import Tensor

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
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Power:
    """Go, again and again, to the edge of the ball in the direction of the slope found last.

    For an error that is a convex function of the image, such as the squared error of a linear
    reconstruction, no step lowers it. Under l2, from the clean image and without bounds in the
    way, it then ends at the very worst image: every iterate has, along each singular direction,
    the sign of the clean slope, and only the global maximum has them all (unless that slope has
    nothing along the largest singular direction). Where the clean image has no slope (the target is
    the clean answer) a random start makes it the power iteration, which ends at the largest
    singular value. On other models a heuristic beside `pgd`.

    Each case gets the best image over all steps and starts.

    Attributes:
        steps: Gradient evaluations per case and start, at least 1.
        random_starts: Searches from the edge of the ball in a random direction, beside the one
            from the clean image; at least 0.
        objective: What to raise: the name or the table of a listed objective, or one itself.

    Source: Journee et al., JMLR 11 (2010) 517, algorithm 1 (generalized power method); the
    argument on signs is ours: a maximum of |A d + e| over |d| <= r solves (m - A'A) d = A'e for
    some m of at least the largest squared singular value.
    """

    steps: int = 40
    random_starts: int = 1
    objective: Asked = "task"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))
        for name, least in (("steps", 1), ("random_starts", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"power: {name} must be a whole number, at least {least}, got {value!r}"
                )

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the model gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        if ball.eps == 0:
            return batch.image
        goal, best, clean = resolved(self.objective), batch.image, batch.image
        highest = torch.full((len(batch),), -torch.inf, device=clean.device)
        radius = ball.radius(clean, batch.context)
        pull = ball.around(clean, batch.context)
        for start in range(1 + self.random_starts):
            image = pull(clean)
            if start > 0:
                away = on_support(rng.normal_like(clean), batch, ball)
                image = pull(clean + radius * steepest(away, ball.norm))
            for _ in range(self.steps):
                loss, slope = loss_gradient(model, batch, image, goal)
                best, highest = _better(image, loss, best, highest)
                slope = on_support(slope, batch, ball)
                there = pull(clean + radius * steepest(slope, ball.norm))
                image = image.where(_flat(slope), there)
            best, highest = _better(image, case_loss(model, batch, image, goal), best, highest)
        return best


def _flat(slope: Tensor) -> Tensor:
    """Cases that have no slope anywhere, `(b, 1, *1)`."""
    return per_case((slope == 0).flatten(start_dim=1).all(dim=1), slope)


def _better(image: Tensor, loss: Tensor, best: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    higher = loss > highest
    return image.where(per_case(higher, image), best), loss.where(higher, highest)
