"""What a panel concludes from counts: cases that speak against an attack, of how many."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.threat import Ball, Norm, per_case_norm

Says = Literal["ok", "suspect", "masked", "not asked"]


@dataclass(frozen=True)
class Limits:
    """When a check speaks up.

    A count of cases is `suspect` where an exact binomial test rejects that at most `tolerated` of
    all cases are so, and `masked` where it rejects `grave`.

    Attributes:
        tolerated: Share of cases that even a sound search misses now and then.
        grave: Share by which a robust accuracy may not be wrong.
        alpha: Chance of a false alarm of one check, at a true share of `tolerated`.
        least: Fewest cases to conclude `valid` from.
        slack: Further rise of a loss that counts as more harm, where no decision is at stake.
        rise: Share of the rise that the slope promises at a tenth of the radius; a case with less
            is rugged.
    """

    tolerated: float = 0.02
    grave: float = 0.10
    alpha: float = 0.01
    least: int = 16
    slack: float = 0.05
    rise: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.tolerated < self.grave < 1:
            raise InputError("validity: need 0 < tolerated < grave < 1, got "
                             f"{self.tolerated}, {self.grave}")  # fmt: skip
        if not 0 < self.alpha < 1:
            raise InputError(f"validity: alpha must lie between 0 and 1, got {self.alpha}")
        for name in ("least", "slack", "rise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"validity: {name} must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Check:
    """One question about an attack, and its answer.

    Attributes:
        name: Of the question.
        says: What follows.
        figure: Share of cases that speak against the attack; NaN where not asked.
        n: Cases asked.
        suspect_at: Smallest share of so many cases that is suspect; NaN where not asked.
        masked_at: Smallest share of so many cases that is masked; infinite where it never is.
        why: What it means for a case to speak against it, or why it was not asked.
        asked: Cases asked, by their number in the sample.
        against: Those of them that speak against the attack.
    """

    name: str
    says: Says
    figure: float
    n: int
    suspect_at: float
    masked_at: float
    why: str
    asked: tuple[int, ...] = ()
    against: tuple[int, ...] = ()

    @property
    def said(self) -> str:
        """One sentence: how many cases speak against the attack, and what that means."""
        return f"{len(self.against)} of {self.n} cases: {self.why}" if self.n else self.why


def counted(
    name: str,
    against: Tensor,
    limits: Limits,
    why: str,
    *,
    worst: Says = "masked",
    asked: Tensor | None = None,
) -> Check:
    """Judge a count by exact binomial tests.

    Args:
        name: Of the check.
        against: Whether each case of the sample speaks against the attack, `(n,)`.
        limits: When that is too many.
        why: What it means for a case to speak against it; follows "k of n cases: ".
        worst: "suspect" for a check that shows that an attack may fail, not that it does.
        asked: Of which cases it can be told, `(n,)`; None for all.
    """
    told = torch.ones_like(against) if asked is None else asked.to(against)
    cases = tuple(torch.nonzero(told).flatten().tolist())
    found = tuple(torch.nonzero(told & against).flatten().tolist())
    n, count = len(cases), len(found)
    if n == 0:
        return not_asked(name, "no case to ask it of")
    suspect_at = fewest(n, limits.tolerated, limits.alpha)
    masked_at = fewest(n, limits.grave, limits.alpha) if worst == "masked" else n + 1
    says: Says = "masked" if count >= masked_at else "suspect" if count >= suspect_at else "ok"
    return Check(
        name, says, count / n, n, suspect_at / n,
        masked_at / n if worst == "masked" else math.inf, why, cases, found,
    )  # fmt: skip


def not_asked(name: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name, "not asked", math.nan, 0, math.nan, math.nan, why)


def fewest(n: int, share: float, alpha: float) -> int:
    """Smallest count of `n` that a binomial of `share` reaches with probability `alpha` or less.

    `n` + 1 if there is none.
    """
    from scipy.stats import binom

    return int(binom.isf(alpha, n, share)) + 1


def rugged(
    model: Model, batch: Batch, ball: Ball, objective: object, rise: float
) -> tuple[Tensor, Tensor]:
    """Compare the rise of an objective, a tenth of the radius along its slope, with the slope.

    Returns:
        Whether it rises by less than `rise` of what the slope promises, `(b,)`, and whether that
        can be told, `(b,)`: not where the promise is lost in the rounding of the loss.
    """
    before, gradient, size = _slope(model, batch, objective)
    tenth = ball.radius(batch.image, batch.context) / 10
    moved = batch.image + tenth * _uphill(gradient, ball.norm)
    moved = ball.project(moved, batch.image, batch.context)
    promised = (gradient * (moved - batch.image)).flatten(start_dim=1).sum(dim=1)
    with torch.no_grad():
        after = _raised(model, batch, moved, objective)[1]
    noise = 1000 * torch.finfo(before.dtype).eps * (1 + size + before.abs())
    told = promised.isfinite() & (promised > noise)
    return (told & ~(after - before >= rise * promised)).cpu(), told.cpu()


def answers_vary(model: Model, batch: Batch) -> Tensor:
    """Which cases the model answers otherwise when asked again, `(b,)`."""
    with torch.no_grad():
        first, second = (model(batch.image, batch.context).flatten(start_dim=1) for _ in range(2))
    far = (first - second).abs().amax(dim=1)
    return (~(far <= 1e-4 * first.abs().amax(dim=1))).cpu()


def searches_inside(model: Model, batch: Batch) -> bool:
    """Whether the model differentiates while it answers: an optimisation inside it."""
    from torch.overrides import TorchFunctionMode

    heard: set[str] = set()

    class Listening(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[object, ...] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            del types
            heard.add(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Listening():
        model(batch.image, batch.context)
    return not heard.isdisjoint({"grad", "backward"})


def _raised(model: Model, batch: Batch, image: Tensor, objective: object) -> tuple[Tensor, Tensor]:
    if not callable(objective):
        raise InputError(f"validity: expected an objective, got {objective!r}")
    output = model(image, batch.context)
    return output, objective(output, batch, model.task)


def _slope(model: Model, batch: Batch, objective: object) -> tuple[Tensor, Tensor, Tensor]:
    """Objective `(b,)`, gradient (zeros where there is none), largest output `(b,)`."""
    image = batch.image.detach().requires_grad_()
    with torch.enable_grad():
        output, loss = _raised(model, batch, image, objective)
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), image, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(image)
    return loss.detach(), gradient, output.detach().flatten(start_dim=1).abs().amax(dim=1)


def _uphill(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / per_case_norm(gradient, "l2").clamp(min=1e-30)
    flat = gradient.flatten(start_dim=1)
    top = flat.abs().argmax(dim=1, keepdim=True)
    steep = torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign())
    return steep.view_as(gradient)
