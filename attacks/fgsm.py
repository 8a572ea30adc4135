"""One step up the loss, as far as the ball reaches."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_med.attacks.gradient import loss_gradient, on_support, steepest
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Fgsm:
    """Move once, by the whole radius, in the direction of steepest ascent.

    The sign of the gradient under linf, the gradient itself under l2, its largest voxel under
    l1. Exact where the loss grows with a linear function of the image, and weak elsewhere: a
    quick check, never evidence of robustness. Draws no random numbers.

    Attributes:
        objective: What to raise: the name or the table of a listed objective, or one itself.

    Source: Goodfellow et al., ICLR 2015, section 4, arXiv:1412.6572.
    """

    objective: Asked = "task"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the model gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        del rng
        if ball.eps == 0:
            return batch.image
        radius = ball.radius(batch.image, batch.context)
        centre = ball.project(batch.image, batch.image, batch.context)
        _, gradient = loss_gradient(model, batch, centre, resolved(self.objective))
        direction = steepest(on_support(gradient, batch, ball), ball.norm)
        return ball.project(centre + radius * direction, batch.image, batch.context)
