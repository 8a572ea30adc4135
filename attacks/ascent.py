"""One climb of APGD, on the cases that are not done, and what it leaves."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.attacks.adaptive_steps import (
    begin,
    check,
    check_sparse,
    move,
    note,
    rows_of,
    windows,
)
from robustbench_med.attacks.gradient import answer_gradient, on_support
from robustbench_med.attacks.objective import Objective
from robustbench_med.attacks.success import broken, select, where_open
from robustbench_med.cases import Batch, Task
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm


@dataclass(frozen=True)
class Ascent:
    """What one climb does.

    Attributes:
        goal: Objective to raise. A climb of a goal that is `until_wrong` leaves a case at its
            first wrong answer.
        steps: Gradient evaluations per case.
    """

    goal: Objective
    steps: int

    @property
    def until_wrong(self) -> bool:
        """Whether a wrong answer is all that is asked for."""
        return bool(getattr(self.goal, "until_wrong", False))


@dataclass(frozen=True)
class Found:
    """What a search has so far.

    Attributes:
        image: `(b, c, *s)`.
        highest: `(b,)`, the objective there; minus infinity where it is not known.
        done: `(b,)`, whether nothing more is to be sought.
    """

    image: Tensor
    highest: Tensor
    done: Tensor


@torch.no_grad()
def untouched(model: Model, batch: Batch, ascent: Ascent) -> Found:
    """Clean images, done where a wrong answer is all that is asked for and is there already.

    Raises:
        UnsupportedError: If the goal does not fit the task.
    """
    found = _nothing(batch)
    if not ascent.until_wrong:
        return found
    output = model(batch.image, batch.context)
    ascent.goal(output, batch, model.task)  # also where every case is wrong already
    wrong = broken(model.task, output, batch.target)
    return found if wrong is None else replace(found, done=wrong)


def at_edge(batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
    """Random images at the edge of the ball; uniform noise under linf, normal elsewhere."""
    like = rng.uniform_like if ball.norm == "linf" else rng.normal_like
    direction = on_support(like(batch.image), batch, ball)
    length = per_case_norm(direction, ball.norm).clamp(min=torch.finfo(direction.dtype).tiny)
    return batch.image + ball.radius(batch.image, batch.context) * direction / length


def continued(
    model: Model, batch: Batch, ball: Ball, ascent: Ascent, start: Tensor, found: Found
) -> Found:
    """Search from `start` `(b, c, *s)` for the cases that are not done; keep what is better.

    Raises:
        UnsupportedError: If the goal does not fit the task, or the model gives no gradients.
    """
    rows = where_open(found.done)
    if not len(rows):
        return found
    new = _staged(model, select(batch, rows), ball, ascent, start[rows])
    better = new.done | (new.highest > found.highest[rows])
    kept = rows[better]
    return Found(
        found.image.index_put((kept,), new.image[better]),
        found.highest.index_put((kept,), new.highest[better]),
        found.done.index_put((rows,), new.done),
    )


def _staged(model: Model, batch: Batch, ball: Ball, ascent: Ascent, start: Tensor) -> Found:
    """Climb in the ball; under l1 first in larger ones, where only the objective counts."""
    third = int(0.3 * ascent.steps)
    if ball.norm != "l1" or not third:
        return _climb(model, batch, ball, ascent, start)
    for scale in (3, 2):
        wider = replace(ball, eps=scale * ball.eps)
        whole = replace(ascent, goal=_Whole(ascent.goal), steps=third)
        start = _climb(model, batch, wider, whole, start, warm=scale < 3).image
    rest = replace(ascent, steps=ascent.steps - 2 * third)
    return _climb(model, batch, ball, rest, start, warm=True)


@dataclass(frozen=True)
class _Whole:
    """An objective without its `until_wrong`: raised to the last step."""

    goal: Objective

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        return self.goal(output, batch, task)


def _climb(
    model: Model, batch: Batch, ball: Ball, ascent: Ascent, start: Tensor, *, warm: bool = False
) -> Found:
    found, rows = _nothing(batch), torch.arange(len(batch), device=start.device)
    checks = windows(ascent.steps, ball.norm)
    pull = ball.around(batch.image, batch.context)
    radius = ball.radius(batch.image, batch.context)
    climb = begin(batch.image, pull(start), radius, ball.norm, warm=warm)
    image = batch.image.clone()
    for step in range(ascent.steps + 1):
        last = step == ascent.steps
        output, loss, gradient = _once(model, batch, climb.image, ascent.goal, slope=not last)
        note(climb, loss, on_support(gradient, batch, ball))
        wrong = broken(model.task, output, batch.target) if ascent.until_wrong else None
        if wrong is not None and wrong.any():
            image[rows[wrong]], found.done[rows[wrong]] = climb.image[wrong], True
            left = where_open(wrong)
            rows, batch, climb = rows[left], select(batch, left), rows_of(climb, left)
            pull = ball.around(batch.image, batch.context)
        if last or not len(rows):
            break
        if step in checks and ball.norm == "l1":
            check_sparse(climb, batch.image, ball.bounds)
        elif step in checks:
            check(climb, checks[step])
        move(climb, ball, pull, first=step == 0)
    image[rows], found.highest[rows] = climb.best, climb.highest
    return replace(found, image=image)


def _once(
    model: Model, batch: Batch, image: Tensor, goal: Objective, *, slope: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if slope:
        return answer_gradient(model, batch, image, goal)
    with torch.no_grad():
        output = model(image, batch.context)
        return output, goal(output, batch, model.task), torch.zeros_like(image)


def _nothing(batch: Batch) -> Found:
    nowhere = torch.full((len(batch),), -torch.inf, dtype=torch.float64, device=batch.image.device)
    return Found(batch.image, nowhere, torch.zeros_like(nowhere, dtype=torch.bool))
