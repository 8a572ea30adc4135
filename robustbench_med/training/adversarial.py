"""Adversarial training: learn from the worst images of a ball."""

from dataclasses import dataclass

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, Norm


@dataclass(frozen=True)
class Adversarial:
    """Replace each batch by what projected gradient ascent finds around it.

    It lowers the loss on images attacked like this; it proves nothing.

    Attributes:
        eps: Radius of the ball, in the cohort's intensity units.
        norm: "linf" or "l2".
        steps: Gradient evaluations per case, so training costs about `1 + steps` times as much.
        step_size: Length of one step, as a fraction of eps.

    Raises:
        InputError: If the ball or the search is out of range.

    Source: Madry et al., ICLR 2018, section 2, arXiv:1706.06083; 7 steps of a quarter of eps
    are its CIFAR-10 training. Deviations: the model stands in evaluation mode while attacked.
    """

    eps: float
    norm: Norm = "linf"
    steps: int = 7
    step_size: float = 0.25

    def __post_init__(self) -> None:
        Ball(self.norm, self.eps)
        Pgd(steps=self.steps, step_size=self.step_size)

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Batch:
        """See `Defence`."""
        ball = Ball(self.norm, self.eps, model.bounds)
        attack = Pgd(steps=self.steps, step_size=self.step_size)
        found = attack(model, batch, ball, rng)
        image = ball.project(found.detach(), batch.image, batch.context)
        return Batch(batch.case_ids, image, batch.target, batch.context)
