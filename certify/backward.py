"""One backward pass: a linear function of the input that stays below rows of a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.certify.input_sets import Sets, least
from robustbench_med.certify.torch_nodes import Operation, added, transposed


@dataclass(frozen=True)
class Lines:
    """What encloses one ReLU between limits `l` and `u` of its input; each `(b or 1, *shape)`.

    Attributes:
        open: Where `l < 0 < u`.
        settled: Its slope elsewhere: 1 where it lets its input through, 0 where it does not.
        steep: Slope of the line above.
        lift: What the line above adds.
    """

    open: Tensor
    settled: Tensor
    steep: Tensor
    lift: Tensor

    def pick(self, index: Tensor) -> "Lines":
        """Return the lines of some items; lines that all share stay."""
        if len(self.open) == 1:
            return self
        return Lines(self.open[index], self.settled[index], self.steep[index], self.lift[index])


def lines(lower: Tensor, upper: Tensor) -> Lines:
    """Enclose a ReLU whose input is between two limits."""
    is_open = (lower < 0) & (upper > 0)
    settled = (lower >= 0).to(lower)
    width = torch.where(is_open, upper - lower, 1)
    steep = torch.where(is_open, upper / width, settled)
    return Lines(is_open, settled, steep, torch.where(is_open, -lower * steep, 0))


def adaptive(lower: Tensor, upper: Tensor) -> Tensor:
    """Slope below a ReLU that leaves the smaller area: 1 where `u > -l`, otherwise 0."""
    return (upper > -lower).to(lower)


@dataclass(frozen=True)
class Cuts:
    """ReLU cuts of a batch of items, `(b, d)` each; shorter lists end in entries of sign 0.

    Attributes:
        node: Position of the ReLU.
        element: Of its input, flat.
        sign: 1 where the low side is kept, -1 where the high side is.
    """

    node: Tensor
    element: Tensor
    sign: Tensor

    def pick(self, index: Tensor) -> "Cuts":
        """Return the cuts of some items."""
        return Cuts(self.node[index], self.element[index], self.sign[index])


@dataclass(frozen=True)
class Problem:
    """Subproblems bounded together: rows of values over sets, between limits of every ReLU.

    Attributes:
        parts: The network.
        start: Coefficients `(b, *shape)` by position of the value that they belong to.
        lines: Of each ReLU before it, by position.
        sets: Of inputs.
        cuts: Of ReLU inputs; None for none.
    """

    parts: Sequence[Operation]
    start: Mapping[int, Tensor]
    lines: Mapping[int, Lines]
    sets: Sets
    cuts: Cuts | None = None

    def pick(self, index: Tensor) -> "Problem":
        """Return some of the subproblems."""
        return replace(
            self,
            start={node: coefficient[index] for node, coefficient in self.start.items()},
            lines={node: each.pick(index) for node, each in self.lines.items()},
            sets=self.sets.pick(index),
            cuts=None if self.cuts is None else self.cuts.pick(index),
        )


@dataclass(frozen=True)
class Pass:
    """What a backward pass found.

    Attributes:
        limits: `(b,)`, what the rows are at least.
        coefficient: `(b, *input)`, of the linear function of the input below them.
        constant: `(b,)`, of that function.
        relus: Coefficients `(b, *shape)` of each ReLU's value, by position.
    """

    limits: Tensor
    coefficient: Tensor
    constant: Tensor
    relus: Mapping[int, Tensor]


def backward(
    problem: Problem, slopes: Mapping[int, Tensor], multipliers: Tensor | None = None
) -> Pass:
    """Bound rows from below, with lines below the open ReLUs and multipliers of the cuts.

    For every slope in [0, 1] and every multiplier that is not negative the limits hold, up to
    rounding: a cut that keeps `x <= 0` may be held against the row as `multiplier * x`, at most 0.

    Args:
        problem: `b` subproblems.
        slopes: `(b or 1, *shape)` by position of each ReLU before the rows.
        multipliers: `(b, d)`, of the cuts.

    Source: Zhang et al., NeurIPS 2018, arXiv:1811.00866, theorem 3.2; Wang et al., NeurIPS 2021,
        arXiv:2103.06624, theorem 3.1.
    """
    waiting = dict(problem.start)
    constant: Tensor = sum(c.new_zeros(len(c)) for c in waiting.values())  # type: ignore[assignment]
    relus = {}
    for position in range(max(waiting), 0, -1):
        coefficient = waiting.pop(position, None)
        if coefficient is None:
            continue
        part = problem.parts[position]
        if part.node.kind == "relu":
            relus[position] = coefficient
            back, lift = _through(problem.lines[position], slopes[position], coefficient)
            constant = constant + lift
            if problem.cuts is not None and multipliers is not None:
                back = back + _held(problem.cuts, multipliers, position, back)
            found: Sequence[Tensor] = [back]
        else:
            shift = added(part)
            if shift is not None:
                constant = constant + (coefficient * shift).flatten(1).sum(dim=1)
            found = transposed(part, coefficient)
        for source, back in zip(part.node.inputs, found, strict=True):
            waiting[source] = waiting[source] + back if source in waiting else back
    shape = problem.parts[0].node.shape
    last = waiting[0] if 0 in waiting else constant.new_zeros(len(constant), *shape)
    return Pass(least(problem.sets, last) + constant, last, constant, relus)


def _through(between: Lines, slope: Tensor, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    above = coefficient.clamp(max=0)
    below = torch.where(between.open, slope, between.settled)
    lift = (above * between.lift).flatten(1).sum(dim=1)
    return coefficient.clamp(min=0) * below + above * between.steep, lift


def _held(cuts: Cuts, multipliers: Tensor, position: int, like: Tensor) -> Tensor:
    here = cuts.node == position
    flat = torch.zeros_like(like).flatten(1)
    weight = multipliers * cuts.sign * here
    return flat.scatter_add(1, cuts.element * here, weight).view_as(like)
