"""What a search asks of a model that it cannot look into: a score, and whether to go on."""

import torch
from torch import Tensor

from robustbench_med.attacks.objective import Asked, Objective, resolved
from robustbench_med.attacks.success import broken
from robustbench_med.cases import Batch, Task
from robustbench_med.model import Model


def goal_of(asked: Asked | None, task: Task) -> Objective:
    """Objective that is asked for; for None the margin of a decision, else the task's loss."""
    if asked is None:
        asked = "margin" if task.kind in ("classification", "multilabel") else "task"
    return resolved(asked)


@torch.no_grad()
def ask(model: Model, batch: Batch, image: Tensor, goal: Objective) -> tuple[Tensor, Tensor]:
    """Score of each case at `image`, and whether no more need be asked about it; both `(b,)`.

    A score that is no number is the lowest. Nothing more need be asked once the answer is wrong,
    if the goal is to make it wrong (`until_wrong`); every other score can be raised for ever.
    """
    output = model(image, batch.context)
    score = goal(output, batch, model.task).nan_to_num(nan=-torch.inf)
    wrong = wrong_now(model.task, output, batch.target)
    return score, wrong & bool(getattr(goal, "until_wrong", False))


def wrong_now(task: Task, output: Tensor, target: Tensor) -> Tensor:
    """Whether each answer is wrong, `(b,)`; never where the task has no decision on the case."""
    wrong = broken(task, output, target)
    return (
        torch.zeros(len(output), dtype=torch.bool, device=output.device) if wrong is None else wrong
    )
