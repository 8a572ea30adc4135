"""Alpha- and beta-CROWN: the slopes and multipliers that lift a row's lower limit most."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certify.backward import Pass, Problem, backward
from robustbench_med.proofs.proof import Cut, Indices, Leaf


@dataclass(frozen=True)
class Ascent:
    """How long and how fast slopes and multipliers climb.

    Attributes:
        steps: Of projected gradient ascent by Adam, at most.
        rate: A slope's first step.
        multiplier_rate: A multiplier's, in units of the largest coefficient at its cut's ReLU.
        decay: Of both rates, a step.
        patience: Steps between two looks at which rows go on.
    """

    steps: int = 20
    rate: float = 0.25
    multiplier_rate: float = 0.25
    decay: float = 0.95
    patience: int = 5


@dataclass(frozen=True)
class Dual:
    """Rows bounded from below, and what it takes to bound them so again.

    Attributes:
        limits: `(b,)`.
        slopes: `(b, *shape)` by position of each ReLU, 0 to 1.
        multipliers: `(b, d)`, at least 0.
        coefficient: `(b, *input)`, of the linear function below each row.
        relus: Coefficients `(b, *shape)` of each ReLU's value, by position.
    """

    limits: Tensor
    slopes: Mapping[int, Tensor]
    multipliers: Tensor
    coefficient: Tensor
    relus: Mapping[int, Tensor]


def improved(
    problem: Problem,
    slopes: Mapping[int, Tensor],
    multipliers: Tensor | None = None,
    *,
    needed: float = 0.0,
    ascent: Ascent | None = None,
) -> Dual:
    """Climb from given slopes and multipliers; no row ends lower than it starts.

    A row stops once it reaches `needed`, or once it rises so slowly that the steps left would
    not take it there.

    Args:
        problem: `b` subproblems.
        slopes: `(b or 1, *shape)` by position of each ReLU, 0 to 1.
        multipliers: `(b, d)`, at least 0, of the problem's cuts; None: all 0.
        needed: Limit at which a row is settled; infinite to take every step.
        ascent: How to climb.

    Source: Xu et al., ICLR 2021, arXiv:2011.13824 (slopes); Wang et al., NeurIPS 2021,
        arXiv:2103.06624, section 3.2 (multipliers); Kingma and Ba, ICLR 2015, arXiv:1412.6980.
    """
    ascent = ascent or Ascent()
    count = len(next(iter(problem.start.values())))
    if multipliers is None:
        depth = 0 if problem.cuts is None else problem.cuts.node.shape[1]
        multipliers = next(iter(problem.start.values())).new_zeros(count, depth)
    with torch.no_grad():
        first = backward(problem, slopes, multipliers)
    # A ReLU that no row depends on has no coefficient, and needs no slope.
    own = {at: slopes[at].expand(count, *slopes[at].shape[1:]).clone() for at in first.relus}
    best = _Best(first, {**own, _MULTIPLIERS: multipliers.clone()})
    if first.relus:  # nothing else can be chosen
        _climb(problem, best, needed, ascent)
    multipliers = best.variables.pop(_MULTIPLIERS)
    # A settled ReLU has no choice of slope; one value for all keeps proofs small.
    lines = {at: problem.lines[at] for at in best.relus}
    chosen = {
        at: torch.where(each.open, best.variables[at], each.settled) for at, each in lines.items()
    }
    return Dual(best.limits, chosen, multipliers, best.coefficient, best.relus)


_MULTIPLIERS = 0  # no ReLU has this position


class _Best:
    """The best of what each row has reached."""

    def __init__(self, first: Pass, variables: dict[int, Tensor]) -> None:
        self.limits = first.limits.clone()
        self.coefficient = first.coefficient.clone()
        self.relus = {at: value.clone() for at, value in first.relus.items()}
        self.variables = variables

    def keep(self, rows: Tensor, found: Pass, variables: Mapping[int, Tensor]) -> None:
        """Keep what some rows have found, where it is better."""
        better = found.limits > self.limits[rows]
        into = rows[better]
        self.limits[into] = found.limits.detach()[better]
        self.coefficient[into] = found.coefficient.detach()[better]
        for at, value in found.relus.items():
            self.relus[at][into] = value.detach()[better]
        for at, value in variables.items():
            self.variables[at][into] = value.detach()[better]


def _climb(problem: Problem, best: _Best, needed: float, ascent: Ascent) -> None:
    rows = torch.arange(len(best.limits), device=best.limits.device)
    unit = _units(problem, best.relus, best.variables[_MULTIPLIERS])
    state = _Adam({at: value.clone() for at, value in best.variables.items()})
    going, looked = best.limits < needed, best.limits.clone()
    for step in range(ascent.steps + 1):
        if step and step % ascent.patience == 0 and needed < torch.inf:
            looks = (ascent.steps - step) / ascent.patience
            hoped = best.limits + _OPTIMISM * looks * (best.limits - looked)
            going, looked = (best.limits < needed) & (hoped >= needed), best.limits.clone()
        kept = going[rows]
        if not kept.any():
            return
        if not kept.all():
            rows, state, unit = rows[kept], state.pick(kept), unit[kept]
            problem = problem.pick(kept)
        best.keep(rows, *_stepped(problem, state, unit, ascent, step))


_OPTIMISM = 4.0  # rises get smaller, but a few rows gain pace


def _units(problem: Problem, relus: Mapping[int, Tensor], multipliers: Tensor) -> Tensor:
    """A scale for each multiplier: what the row gains by a ReLU is what a cut of it may cost."""
    unit = torch.zeros_like(multipliers)
    if problem.cuts is not None and multipliers.shape[1]:
        for at, coefficient in relus.items():
            largest = coefficient.abs().flatten(1).amax(dim=1, keepdim=True)
            unit = torch.where(problem.cuts.node == at, largest, unit)
    return unit


class _Adam:
    """Variables on the way up, with the moments of their gradients."""

    def __init__(self, variables: Mapping[int, Tensor]) -> None:
        self.variables = dict(variables)
        self.first = {at: torch.zeros_like(value) for at, value in variables.items()}
        self.second = {at: torch.zeros_like(value) for at, value in variables.items()}

    def pick(self, kept: Tensor) -> "_Adam":
        for kind in (self.variables, self.first, self.second):
            kind.update({at: value[kept] for at, value in kind.items()})
        return self

    def direction(self, at: int, rise: Tensor, step: int) -> Tensor:
        """Where a variable goes, in units of its rate."""
        self.first[at] = self.first[at].lerp(rise, 0.1)
        self.second[at] = self.second[at].lerp(rise.square(), 0.001)
        spread = (self.second[at] / (1 - 0.999 ** (step + 1))).sqrt()
        # Gradients are in units of the output: what is tiny beside the rest is rounding.
        floor = 1e-6 * spread.flatten(1).sum(dim=1).reshape(-1, *[1] * (rise.ndim - 1))
        return self.first[at] / (1 - 0.9 ** (step + 1)) / (spread + floor + 1e-30)


def _stepped(
    problem: Problem, state: _Adam, unit: Tensor, ascent: Ascent, step: int
) -> tuple[Pass, dict[int, Tensor]]:
    """Bound at the present variables, and take a step from there."""
    here = {at: value.detach().requires_grad_() for at, value in state.variables.items()}
    with torch.enable_grad():
        found = backward(problem, here, here[_MULTIPLIERS])
        rises = torch.autograd.grad(
            found.limits.sum(), list(here.values()), allow_unused=True, materialize_grads=True
        )
    for (at, value), rise in zip(here.items(), rises, strict=True):
        slope = at != _MULTIPLIERS
        rate = ascent.rate if slope else ascent.multiplier_rate * unit
        moved = value.detach() + ascent.decay**step * rate * state.direction(at, rise, step)
        state.variables[at] = moved.clamp(0, 1 if slope else torch.inf)
    return found, {at: value.detach() for at, value in here.items()}


def leaf(
    slopes: Mapping[int, Tensor],
    multipliers: Tensor,
    cuts: tuple[Cut, ...],
    rows: Indices,
    base: int = 0,
) -> Leaf:
    """Write slopes `(n, *shape)` and multipliers `(n, len(cuts))` down as a leaf.

    Args:
        slopes: By position of a ReLU.
        multipliers: Of the cuts.
        cuts: Of ReLU inputs, shared by all `n`.
        rows: `(n,)`, positions of the claims.
        base: Position of the base that it stands on.
    """
    written = {at: value.double().numpy(force=True) for at, value in slopes.items()}
    factors = multipliers.double().numpy(force=True) if cuts else None
    return Leaf(base, rows, cuts, written, factors)
