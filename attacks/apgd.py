"""Auto-PGD: gradient ascent with momentum that sets its own step sizes."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_med.attacks.ascent import Ascent, at_edge, continued, untouched
from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Apgd:
    """Climb with momentum and halve a case's step where it stalls, from its best image on.

    With an objective that is done once the answer is wrong (`ce`, `margin`, `dlr`), a case that
    is wrong already is left alone, and one that becomes wrong is not asked about again. With any
    other, a case gets the image of the highest objective seen. A heuristic: that it finds
    nothing proves nothing.

    Attributes:
        steps: Gradient evaluations per case and restart, at least 1.
        restarts: Searches from different random starts, at least 1.
        random_start: Whether to start at the edge of the ball instead of at the clean image.
        objective: What to raise: the name or the table of a listed objective, or one itself.

    Source: Croce and Hein, ICML 2020, algorithm 1 and section 3, arXiv:2003.01690: checkpoints
    at 0.22 of the steps, then 0.03 less each, at least 0.06; momentum 0.75, rho 0.75, first step
    twice the radius. Under l1 Croce and Hein, ICML 2021, arXiv:2103.01208, section 3: sparse
    steps, and three stages in 3, 2 and 1 times the radius for 0.3, 0.3 and 0.4 of the steps.
    Deviations: the share of rises may equal rho, as in the authors' code. Under l1 the start is
    normal noise scaled to the ball's edge, so that it depends on no intensity unit; a step counts
    and moves no voxels that it would push out of the bounds; it may shrink to a single voxel.
    """

    steps: int = 100
    restarts: int = 1
    random_start: bool = True
    objective: Asked = "ce"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))
        check_counts("apgd", self, "steps", "restarts")
        if self.restarts > 1 and not self.random_start:
            raise InputError("apgd: restarts from the clean image repeat one search; got "
                             f"restarts = {self.restarts} with random_start = false")  # fmt: skip

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the objective does not fit the task, or the model gives no
                gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        if ball.eps == 0:
            return batch.image
        ascent = Ascent(resolved(self.objective), self.steps)
        found = untouched(model, batch, ascent)
        for _ in range(self.restarts):
            start = at_edge(batch, ball, rng) if self.random_start else batch.image
            found = continued(model, batch, ball, ascent, start, found)
        return found.image
