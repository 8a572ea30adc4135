"""The strongest of three climbs through shrinking balls, for segmentations."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.attacks.adaptive_steps import begin, check, move, note, windows
from robustbench_med.attacks.gradient import answer_gradient, on_support
from robustbench_med.attacks.objective import Objective
from robustbench_med.attacks.pixelwise import BalancedCe, Js, MaskedCe, harm, require_segmentation
from robustbench_med.attacks.segpgd import keep_worst
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

GOALS: tuple[Objective, ...] = (BalancedCe(), MaskedCe(), Js())
WIDER = (2.0, 1.5)
"""Radii of the first stages, as multiples of the ball's."""
EARLY = 0.3
"""Share of the steps that each of them has."""


@dataclass(frozen=True)
class Sea:
    """Climb `balanced_ce`, `masked_ce` and `js` by APGD, from larger balls into the one asked for.

    Each objective starts at the clean image, in twice the radius for 30 % of the steps, goes on
    in 1.5 times the radius for 30 %, and in the radius itself for the rest; only the last stage's
    images count. Each case gets the image with the most wrong voxels over all three, the clean
    image among them; of equals that of the highest cross-entropy. Draws no random numbers.

    Attributes:
        steps: Gradient evaluations per case and objective, at least 4.

    Source: Croce, Singh, Hein, ECCV 2024, section on SEA, arXiv:2306.12941; radii, shares and 300
    steps as in the authors' code. Deviations: wrong voxels, not cross-entropy alone, decide which
    image is kept; a start at the clean image; l2 too.
    """

    steps: int = 300

    def __post_init__(self) -> None:
        steps: object = self.steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 4:
            raise InputError(f"sea: steps must be a whole number, at least 4, got {steps!r}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is no segmentation, the ball is l1, or the model gives
                no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        del rng
        if ball.norm == "l1":
            raise UnsupportedError("sea: searches linf and l2 balls, got l1")
        if ball.eps == 0:
            return batch.image
        best, worst = batch.image, _harm_at(model, batch, batch.image)
        early = max(int(EARLY * self.steps), 1)
        for goal in GOALS:
            image = batch.image
            for scale in WIDER:
                wider = replace(ball, eps=scale * ball.eps)
                image, _ = _climbed(model, batch, wider, goal, image, early)
            left = self.steps - len(WIDER) * early
            image, value = _climbed(model, batch, ball, goal, image, left)
            best, worst = keep_worst(image, value, best, worst)
        return best


def _climbed(
    model: Model, batch: Batch, ball: Ball, goal: Objective, start: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Image of the most harm on the way up from `start`, and that harm `(b,)`."""
    pull = ball.around(batch.image, batch.context)
    radius = ball.radius(batch.image, batch.context)
    climb = begin(batch.image, pull(start), radius, ball.norm, warm=True)
    checks = windows(steps, ball.norm)
    best, worst = climb.image, torch.full((len(batch),), -torch.inf).to(radius.double())
    for step in range(steps):
        output, loss, slope = answer_gradient(model, batch, climb.image, goal)
        best, worst = keep_worst(climb.image, harm(output, batch.target), best, worst)
        note(climb, loss, on_support(slope, batch, ball))
        if step in checks:
            check(climb, checks[step])
        move(climb, ball, pull, first=step == 0)
    return keep_worst(climb.image, _harm_at(model, batch, climb.image), best, worst)


@torch.no_grad()
def _harm_at(model: Model, batch: Batch, image: Tensor) -> Tensor:
    output = model(image, batch.context)
    require_segmentation("sea", output, batch, model.task)
    return harm(output, batch.target)
