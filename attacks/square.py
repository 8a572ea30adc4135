"""A random search that changes one square of the image at a time; needs no gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.gradient import per_case
from robustbench_med.attacks.objective import Asked, Objective, resolved
from robustbench_med.attacks.queries import ask, goal_of
from robustbench_med.attacks.square_moves import Moves
from robustbench_med.attacks.squares import share_at
from robustbench_med.attacks.success import select, where_open
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

_DRAWN_AT_ONCE = 100


@dataclass(frozen=True)
class Square:
    """Try squares of random place and sign, ever smaller, and keep what raises the objective.

    Under linf a square puts its voxels at the edge of the ball, one sign a channel. Under l2 and
    l1 it moves what another square held into its own, so that the whole stays on the sphere, or,
    under l1, goes to the nearest image of ball and bounds. A case whose answer
    is wrong asks no more. Volumes have cubes, series have spans, and sides end at the image; an
    image without axes is searched along its channels. Where the ball has a support, squares lie
    around its voxels. A heuristic: that it finds nothing proves nothing.

    Attributes:
        queries: Answers asked of the model per case and restart, at least 1.
        p_init: Share of the voxels that the first squares change, above 0, at most 1.
        restarts: Searches from other random starts, at least 1.
        objective: What to raise. Left out it is the margin where the answer is one decision
            (classification, multilabel), and the task's loss elsewhere.

    Source: Andriushchenko et al., ECCV 2020, algorithms 1 to 3, arXiv:1912.00049; `p_init` and the
    schedule as AutoAttack has them (Croce and Hein, ICML 2020, arXiv:2003.01690): of the query's
    number, whatever the budget. Under l1 as Croce and Hein have it, ICML 2021, arXiv:2103.01208
    (recalled, section not confirmed). Deviations: axes other than two; squares on a support;
    clean images whose answer is wrong, or not made worse, are returned.
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    objective: Asked | None = None

    def __post_init__(self) -> None:
        if self.objective is not None:
            object.__setattr__(self, "objective", resolved(self.objective))
        check_counts("square", self, "queries", "restarts")
        share: object = self.p_init
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise InputError(f"square: p_init must be above 0 and at most 1, got {share!r}")

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
        for _ in range(self.restarts):
            rows = where_open(done)
            if not len(rows):
                break
            found, raised, done[rows] = self._search(model, batch, ball, rng, rows, goal)
            better = done[rows] | (raised > score[rows])
            best[rows] = found.where(per_case(better, found), best[rows])
            score[rows] = raised.where(better, score[rows])
        return best

    def _search(
        self, model: Model, batch: Batch, ball: Ball, rng: CaseRng, rows: Tensor, goal: Objective
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One restart for the cases at `rows`: images, scores, and whether they are broken."""
        # Each case draws alike whichever others still stand, so draws are made for the whole batch.
        image = Moves(batch, ball).first(rng)[rows]
        moves = Moves(select(batch, rows), ball)
        score, done = ask(model, moves.batch, image, goal)
        left, drawn = None, torch.empty(0)
        for query in range(self.queries - 1):
            if left is None or bool(done[left].any()):
                left = where_open(done)
                moves = Moves(select(batch, rows[left]), ball)
            if not len(left):
                break
            turn = query % _DRAWN_AT_ONCE
            if turn == 0:
                drawn = rng.uniform(_DRAWN_AT_ONCE, moves.draws).to(image.device)
            tried = moves.tried(image[left], share_at(query, self.p_init), drawn[rows[left], turn])
            raised, wrong = ask(model, moves.batch, tried, goal)
            kept = wrong | (raised > score[left])
            image[left] = tried.where(per_case(kept, tried), image[left])
            score[left], done[left] = raised.where(kept, score[left]), wrong
        return image, score, done
