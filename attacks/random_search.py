"""Draws anywhere in the ball: the control that any search must beat on an equal budget."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import per_case
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.attacks.queries import ask, goal_of
from robustbench_med.attacks.success import select, where_open
from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm


@dataclass(frozen=True)
class RandomSearch:
    """Draw images at the edge of the ball and inside it, in turn, and keep the worst.

    At the edge: a corner under linf, a random direction under l2, one voxel under l1. Inside: the
    same, its length uniform; under linf each voxel uniform. No draw depends on an answer, so what
    another search of as many queries finds beyond it is its own. A case whose answer is wrong asks
    no more. Needs no gradient.

    Attributes:
        queries: Images drawn for each case, at least 1.
        objective: What to raise. Left out it is the margin where the answer is one decision
            (classification, multilabel), and the task's loss elsewhere.
    """

    queries: int = 5000
    objective: Asked | None = None

    def __post_init__(self) -> None:
        if self.objective is not None:
            object.__setattr__(self, "objective", resolved(self.objective))
        check_counts("random_search", self, "queries")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the objective does not fit the task.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        if ball.eps == 0:
            return batch.image
        goal, best = goal_of(self.objective, model.task), batch.image.clone()
        score, done = ask(model, batch, best, goal)
        for query in range(self.queries):
            rows = where_open(done)
            if not len(rows):
                break
            drawn = _drawn(batch, ball, rng, edge=query % 2 == 0)[rows]
            cases = select(batch, rows)
            tried = ball.project(drawn, cases.image, cases.context)
            raised, done[rows] = ask(model, cases, tried, goal)
            kept = done[rows] | (raised > score[rows])
            best[rows] = tried.where(per_case(kept, tried), best[rows])
            score[rows] = raised.where(kept, score[rows])
        return best


def _drawn(batch: Batch, ball: Ball, rng: CaseRng, *, edge: bool) -> Tensor:
    """Images in the ball or at its edge, before bounds and support."""
    image = batch.image
    radius = ball.radius(image, batch.context)
    if ball.norm == "linf":
        offset = rng.uniform_like(image)
        offset = offset.sign() if edge else offset
    elif ball.norm == "l2":
        offset = rng.normal_like(image)
        offset = offset / per_case_norm(offset, "l2")
    else:
        flat = image[0].numel()
        place = (rng.uniform() * flat).long().clamp(max=flat - 1)
        sign = 1 - 2 * (rng.uniform() < 0.5).to(image)
        offset = image.new_zeros(len(image), flat)
        offset.scatter_(1, place[:, None].to(image.device), sign[:, None].to(image.device))
        offset = offset.view_as(image)
    if ball.norm != "linf" and not edge:
        offset = offset * per_case(rng.uniform().to(image), image)
    return image + radius * offset
