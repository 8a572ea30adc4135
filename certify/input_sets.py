"""Input sets of proofs in torch: where a linear function is least over each of a batch of sets."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.proofs.proof import InputSet


@dataclass(frozen=True)
class Sets:
    """A batch of boxes, or one for all items of a batch, cut with one l2 ball where there is one.

    Attributes:
        low: `(b, *input)` or `(1, *input)`.
        high: The same.
        centre: `(1, *input)`, of the ball; None without one.
        radius: Of the ball.
    """

    low: Tensor
    high: Tensor
    centre: Tensor | None = None
    radius: float = torch.inf

    def pick(self, index: Tensor) -> "Sets":
        """Return the sets of some items; a set that all share stays one."""
        if len(self.low) == 1:
            return self
        return replace(self, low=self.low[index], high=self.high[index])


def on_torch(inputs: InputSet, like: Tensor) -> Sets:
    """Put a set into the data type and on the device of `like`, as a batch of one."""
    low, high = (
        torch.as_tensor(corner).to(like)[None].clone() for corner in (inputs.low, inputs.high)
    )
    if inputs.centre is None:
        return Sets(low, high)
    return Sets(low, high, torch.as_tensor(inputs.centre).to(like)[None].clone(), inputs.radius)


def least(sets: Sets, coefficient: Tensor) -> Tensor:
    """Bound coefficients `(b, *input)` times inputs from below, `(b,)`: over box or ball alone.

    The better of the two holds over what they share.
    """
    boxed = coefficient.clamp(min=0) * sets.low + coefficient.clamp(max=0) * sets.high
    limit: Tensor = boxed.flatten(1).sum(dim=1)
    if sets.centre is None:
        return limit
    # Where the box has no width the ball has none either.
    free = sets.high > sets.low
    middle = (coefficient * torch.where(free, sets.centre, sets.low)).flatten(1).sum(dim=1)
    reach = sets.radius * (coefficient * free).flatten(1).norm(dim=1)
    return torch.maximum(limit, middle - reach)


def minimiser(sets: Sets, coefficient: Tensor) -> Tensor:
    """A point of each set, `(b, *input)`, at which coefficients times inputs is small.

    It is the least of a box; of a box cut with a ball, that of the box drawn into the ball.
    """
    point = torch.where(coefficient > 0, sets.low, sets.high)
    if sets.centre is None:
        return point
    offset = point - sets.centre
    length = offset.flatten(1).norm(dim=1).clamp(min=1e-30)
    shrink: Tensor = (sets.radius / length).clamp(max=1)
    return sets.centre + offset * shrink.reshape(-1, *[1] * (offset.ndim - 1))
