"""Projected gradient ascent that turns from right voxels to wrong ones as it goes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import answer_gradient, on_support, per_case, steepest
from robustbench_med.attacks.pgd import anywhere
from robustbench_med.attacks.pixelwise import harm, require_segmentation, right
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Segpgd:
    """Climb the cross-entropy of a segmentation, first of right voxels, later of wrong ones too.

    At step t of T, from 1, a wrong voxel weighs `(t - 1) / 2T` and a right one the rest to 1:
    first as many voxels as possible are turned, then they are kept from turning back. Each case
    gets the iterate with the most wrong voxels, the clean image among them; of equals that of the
    highest cross-entropy.

    Attributes:
        steps: Gradient evaluations per case, at least 1.
        step_size: Length of one step, as a fraction of the radius, above 0.
        random_start: Whether to start anywhere in the ball instead of at the clean image.

    Source: Gu et al., ECCV 2022, arXiv:2207.12391, algorithm 1, recalled. Deviations: the worst
    iterate is kept, not the last; l2 too.
    """

    steps: int = 100
    step_size: float = 0.1
    random_start: bool = True

    def __post_init__(self) -> None:
        check_counts("segpgd", self, "steps")
        size: object = self.step_size
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
            raise InputError(f"segpgd: step_size must be above 0 and finite, got {size!r}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is no segmentation, the ball is l1, or the model gives
                no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        if ball.norm == "l1":
            raise UnsupportedError("segpgd: searches linf and l2 balls, got l1")
        if ball.eps == 0:
            return batch.image
        length = self.step_size * ball.radius(batch.image, batch.context)
        pull = ball.around(batch.image, batch.context)
        best = image = pull(batch.image)
        worst = _harm_at(model, batch, best)
        if self.random_start:
            radius = ball.radius(batch.image, batch.context)
            image = pull(batch.image + radius * anywhere(batch.image, ball, rng))
        for step in range(self.steps):
            goal = Shared(step / (2 * self.steps))
            output, _, gradient = answer_gradient(model, batch, image, goal)
            best, worst = keep_worst(image, harm(output, batch.target), best, worst)
            way = steepest(on_support(gradient, batch, ball), ball.norm)
            image = pull(image + length * way)
        return keep_worst(image, _harm_at(model, batch, image), best, worst)[0]


@dataclass(frozen=True)
class Shared:
    """The mean cross-entropy with a weight of `wrong` on wrong voxels and `1 - wrong` on right.

    Attributes:
        wrong: In [0, 1].
    """

    wrong: float

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("segpgd", output, batch, task)
        entropy = F.cross_entropy(output, batch.target, reduction="none")
        weights = torch.where(right(output, batch.target), 1 - self.wrong, self.wrong)
        return (weights * entropy).flatten(start_dim=1).mean(dim=1)


def keep_worst(
    image: Tensor, value: Tensor, best: Tensor, highest: Tensor
) -> tuple[Tensor, Tensor]:
    """Put `image` for `best`, and its value `(b,)`, in the cases where it is higher."""
    higher = value > highest
    return image.where(per_case(higher, image), best), value.where(higher, highest)


@torch.no_grad()
def _harm_at(model: Model, batch: Batch, image: Tensor) -> Tensor:
    output = model(image, batch.context)
    require_segmentation("segpgd", output, batch, model.task)
    return harm(output, batch.target)
