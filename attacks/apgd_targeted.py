"""Auto-PGD towards one wrong answer after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.attacks.ascent import Ascent, at_edge, continued, untouched
from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.margins import (
    Margin,
    decides,
    easiest,
    targeted_ratio,
    wrongness,
)
from robustbench_med.cases import Batch, Task
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class ApgdTargeted:
    """Climb towards each of the nearest wrong answers, on the cases that none has broken yet.

    The wrong answers are ranked at the clean image: classes by their logit, flags by how near
    they are to flipping. What rises is the targeted DLR; below four classes, where that is not
    defined, and for flags it is the margin to the one wrong answer. A case that is wrong, with
    whatever answer, is done. A heuristic: that it finds nothing proves nothing.

    Attributes:
        steps: Gradient evaluations per case and target, at least 1.
        targets: Wrong answers to try at most, the nearest first, at least 1.
        restarts: Searches from different random starts per target, at least 1.

    Source: Croce and Hein, ICML 2020, sections 4 and 5, arXiv:2003.01690. Deviations: the margin
    for two and three classes and for flags; see also `Apgd`.
    """

    steps: int = 100
    targets: int = 9
    restarts: int = 1

    def __post_init__(self) -> None:
        check_counts("apgd_targeted", self, "steps", "targets", "restarts")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is neither classification nor multilabel, or the model
                gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        decides("apgd_targeted", model.task)
        if ball.eps == 0:
            return batch.image
        found = untouched(model, batch, Ascent(Margin(), self.steps))
        for aim in _aims(model, batch, self.targets):
            goal = Toward(dict(zip(batch.case_ids, aim.tolist(), strict=True)))
            for _ in range(self.restarts):
                start = at_edge(batch, ball, rng)
                found = continued(model, batch, ball, Ascent(goal, self.steps), start, found)
        return found.image


@dataclass(frozen=True)
class Toward:
    """How near each case is to a wrong answer of its own.

    Attributes:
        aims: Index of the wrong class, or of the flag to flip, by case id.
    """

    until_wrong: ClassVar[bool] = True
    aims: Mapping[str, int]

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        aim = torch.tensor([self.aims[case] for case in batch.case_ids], device=output.device)
        if task.kind == "classification" and output.shape[1] > 3:
            return targeted_ratio(output, batch.target, task, aim)
        return wrongness(output, batch.target, task).gather(1, aim[:, None]).squeeze(1)


@torch.no_grad()
def _aims(model: Model, batch: Batch, targets: int) -> tuple[Tensor, ...]:
    """Indices of the wrong answers `(b,)`, one tensor per rank."""
    nearest = easiest(model(batch.image, batch.context), batch.target, model.task)
    return nearest[:, :targets].unbind(dim=1)
