"""Which ReLU to split next: the best of a few candidates, each tried with a short bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.certify.backward import Cuts, Lines, Problem, backward, lines
from robustbench_med.certify.hidden import Limits
from robustbench_med.proofs.proof import Cut


@dataclass(frozen=True)
class Sub:
    """A row on one part of a set, bounded.

    Attributes:
        cuts: Of ReLU inputs, from the whole set down.
        limit: What the row is at least.
        slopes: `(1, *shape)` by position of each ReLU.
        multipliers: `(1, len(cuts))`.
        relus: Coefficients `(1, *shape)` of each ReLU's value.
    """

    cuts: tuple[Cut, ...]
    limit: float
    slopes: Mapping[int, Tensor]
    multipliers: Tensor
    relus: Mapping[int, Tensor]


def cut_limits(
    limits: Limits, items: Sequence[Sequence[Cut]], nodes: Sequence[int]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Limits `(b, *shape)` of some ReLUs' inputs on the parts that lists of cuts keep."""
    count = len(items)
    lower, upper = (
        {at: side[at].expand(count, *side[at].shape[1:]).clone() for at in nodes}
        for side in (limits.lower, limits.upper)
    )
    for item, cuts in enumerate(items):
        for cut in cuts:
            if cut.side == "low":
                upper[cut.node][item].view(-1)[cut.element].clamp_(max=0)
            else:
                lower[cut.node][item].view(-1)[cut.element].clamp_(min=0)
    return lower, upper


def cut_lines(
    limits: Limits, items: Sequence[Sequence[Cut]], nodes: Sequence[int]
) -> dict[int, Lines]:
    """Enclose some ReLUs on the parts that lists of cuts keep."""
    lower, upper = cut_limits(limits, items, nodes)
    return {at: lines(lower[at], upper[at]) for at in nodes}


def candidates(limits: Limits, sub: Sub, count: int) -> list[tuple[int, int]]:
    """Open ReLUs, as position and element, whose lines may cost a row most; the worst first.

    The line above costs a coefficient below 0 its lift: half the list is by that. The line below
    costs a coefficient above 0 at most `-s l` or `(1 - s) u`: the other half is by both costs.

    Source: Bunel et al., JMLR 21 (2020), section 5.2 (the first); De Palma et al.,
        arXiv:2104.06718, section 5.
    """
    between = cut_lines(limits, [sub.cuts], list(sub.relus))
    places, lifts, totals = [], [], []
    for at, coefficient in sub.relus.items():
        each, slope = between[at], sub.slopes[at]
        below = torch.maximum(-slope * limits.lower[at], (1 - slope) * limits.upper[at])
        lift = -coefficient.clamp(max=0) * each.lift
        total = lift + coefficient.clamp(min=0) * below
        chosen = each.open.flatten().nonzero().flatten()
        places += [(at, element) for element in chosen.tolist()]
        lifts.append(lift.flatten()[chosen])
        totals.append(total.flatten()[chosen])
    if not places:
        return []
    found: dict[tuple[int, int], None] = {}
    by_total = torch.cat(totals).argsort(descending=True, stable=True).tolist()
    by_lift = torch.cat(lifts).argsort(descending=True, stable=True).tolist()
    for one, other in zip(by_total, by_lift, strict=True):
        found.update({places[one]: None, places[other]: None})
        if len(found) >= count:
            break
    return list(found)[:count]


def children(place: tuple[int, int]) -> tuple[Cut, Cut]:
    """Cut a ReLU's input at 0: what is at most 0, and what is at least 0."""
    return Cut(*place, "low"), Cut(*place, "high")


def best_split(
    problem: Problem, limits: Limits, sub: Sub, tried: Sequence[tuple[int, int]], needed: float
) -> tuple[int, int]:
    """Try candidates: the one whose halves are bounded best in sum, `needed` being enough.

    Each half is bounded once, at the slopes and multipliers that its parent ends with. (By the
    worse half alone, trees came out a quarter larger on margins of a small digits classifier.)

    Args:
        problem: Of one item, for the row, the network and the set.
        limits: Of the whole set.
        sub: What is to be split.
        tried: Candidates, at least one.
        needed: Limit at which a half is settled.
    """
    if len(tried) == 1:
        return tried[0]
    cuts = [(*sub.cuts, cut) for place in tried for cut in children(place)]
    started = started_at(problem, limits, [(sub, item) for item in cuts])
    with torch.no_grad():
        found = backward(started.problem, started.slopes, started.multipliers).limits
    gains = found.clamp(max=needed).view(-1, 2).sum(dim=1)
    return tried[int(gains.argmax())]


@dataclass(frozen=True)
class Started:
    """Subproblems with the slopes and multipliers that they start from."""

    problem: Problem
    slopes: dict[int, Tensor]
    multipliers: Tensor


def started_at(
    problem: Problem, limits: Limits, items: Sequence[tuple[Sub, tuple[Cut, ...]]]
) -> Started:
    """Set subproblems up from their parents.

    A new cut starts with the multiplier that makes up for the line below its ReLU, so that only
    a coefficient below 0 can leave a child lower than its parent.

    Args:
        problem: Of one item, for the row, the network and the set.
        limits: Of the whole set.
        items: Each parent with the cuts of its child: its own and, at most, one more.
    """
    parents, cuts = [parent for parent, _ in items], [cuts for _, cuts in items]
    nodes = list(parents[0].relus)
    like = parents[0].multipliers
    tensors = _cuts_of(cuts, like)
    multipliers = like.new_zeros(tensors.node.shape)
    for item, (parent, own) in enumerate(items):
        known = parent.multipliers.shape[1]
        multipliers[item, :known] = parent.multipliers[0]
        if len(own) > known:
            multipliers[item, known] = _makes_up(parent, own[-1])
    batch = replace(
        problem,
        start={
            at: start.expand(len(items), *start.shape[1:]) for at, start in problem.start.items()
        },
        lines=cut_lines(limits, cuts, nodes),
        cuts=tensors,
    )
    slopes = {at: torch.cat([parent.slopes[at] for parent in parents]) for at in nodes}
    return Started(batch, slopes, multipliers)


def _makes_up(parent: Sub, cut: Cut) -> float:
    coefficient = parent.relus[cut.node].reshape(-1)[cut.element].clamp(min=0)
    slope = parent.slopes[cut.node].reshape(-1)[cut.element]
    return float(coefficient * (slope if cut.side == "low" else 1 - slope))


def _cuts_of(items: Sequence[Sequence[Cut]], like: Tensor) -> Cuts:
    """Put the cuts of each item into tensors."""
    depth = max((len(item) for item in items), default=0)
    rest = [[Cut(0, 0, "low")] * (depth - len(item)) for item in items]
    padded = [[*item, *more] for item, more in zip(items, rest, strict=True)]
    shape = (len(items), depth)
    node, element = (
        torch.tensor([[getattr(cut, name) for cut in item] for item in padded], device=like.device)
        for name in ("node", "element")
    )
    signs = [[0 if not c.node else 1 if c.side == "low" else -1 for c in item] for item in padded]
    sign = torch.tensor(signs).to(like)
    return Cuts(node.long().reshape(shape), element.long().reshape(shape), sign.reshape(shape))
