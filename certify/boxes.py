"""Rows bounded over a batch of boxes, and which side of each box to halve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certify.backward import Pass, Problem, backward
from robustbench_med.certify.chunks import BUDGET_BYTES
from robustbench_med.certify.hidden import Limits, hidden_limits, rows_that_fit
from robustbench_med.certify.input_sets import Sets, minimiser
from robustbench_med.certify.torch_nodes import Operation, absolute, linear
from robustbench_med.proofs.proof import Cut

# Weight of how much a row itself moves along a side, beside what its ReLUs may cost it.
_LEAST = 1e-3


@dataclass(frozen=True)
class Part:
    """A part of an input set.

    Attributes:
        cuts: Of the network's input, from the whole set down.
        low: `(*input)`.
        high: `(*input)`.
    """

    cuts: tuple[Cut, ...]
    low: Tensor
    high: Tensor

    def halves(self, element: int) -> tuple["Part", "Part"]:
        """Cut in the middle of one side, given as an element of the flat input."""
        at = float((self.low.view(-1)[element] + self.high.view(-1)[element]) / 2)
        high, low = self.high.clone(), self.low.clone()
        high.view(-1)[element] = at
        low.view(-1)[element] = at
        below = Part((*self.cuts, Cut(0, element, "low", at)), self.low, high)
        return below, Part((*self.cuts, Cut(0, element, "high", at)), low, self.high)


@dataclass(frozen=True)
class Bounded:
    """What bounding found, for `n` pairs of a box and a row.

    Attributes:
        limits: `(n,)`, what the row is at least on the box.
        points: `(n, *input)`, where the linear function below it is least.
        promise: `(n, inputs)`, how much of what its ReLUs may cost it each side of the box makes.
    """

    limits: Tensor
    points: Tensor
    promise: Tensor


def sets_of(parts: Sequence[Part], whole: Sets) -> Sets:
    """Put boxes into one batch, each cut with the whole set's ball."""
    low, high = (torch.stack([getattr(part, side) for part in parts]) for side in ("low", "high"))
    return Sets(low, high, whole.centre, whole.radius)


def bounded(
    network: Sequence[Operation],
    sets: Sets,
    rows: Tensor,
    box: Tensor,
    row: Tensor,
    *,
    budget: int = BUDGET_BYTES,
) -> Bounded:
    """Bound pairs of a box and a row; limits of ReLUs are found for every box.

    Args:
        network: The network.
        sets: `b` boxes.
        rows: `(r, m)`, of the flattened outputs.
        box: `(n,)`, which box; at least one pair.
        row: `(n,)`, which row.
        budget: Bytes that a chunk of pairs may take.

    Source: Zhang et al., NeurIPS 2018, arXiv:1811.00866.
    """
    known, last = hidden_limits(network, sets, budget), len(network) - 1
    shares = _shares(network, known, sets)
    found, fit = [], rows_that_fit(network, rows, budget)
    for some in torch.split(torch.arange(len(box), device=box.device), fit):
        here = box[some]
        problem = Problem(
            network,
            {last: rows[row[some]].view(-1, *network[last].node.shape)},
            {at: each.pick(here) for at, each in known.lines.items()},
            sets.pick(here),
        )
        slopes = {at: slope[here] for at, slope in known.slopes.items()}
        done = backward(problem, slopes)
        promise = _promise(done, problem, known, shares, here)
        found.append((done.limits, minimiser(problem.sets, done.coefficient), promise))
    return Bounded(*(torch.cat(each) for each in zip(*found, strict=True)))


def _promise(
    done: Pass, problem: Problem, known: Limits, shares: Mapping[int, Tensor], box: Tensor
) -> Tensor:
    """Lay what each open ReLU may cost a row on the sides of the box that move its input."""
    width = (problem.sets.high - problem.sets.low).flatten(1)
    total = done.coefficient.flatten(1).abs() * width
    # Over a box alone a linear row has nothing to gain; where a ball cuts it, it may have.
    total = total * (0.0 if problem.sets.centre is None else _LEAST)
    for at, coefficient in done.relus.items():
        between, slope = problem.lines[at], known.slopes[at][box]
        below = torch.maximum(-slope * known.lower[at][box], (1 - slope) * known.upper[at][box])
        cost = coefficient.clamp(min=0) * below - coefficient.clamp(max=0) * between.lift
        cost = torch.where(between.open, cost, 0).flatten(1)
        total = total + (shares[at][box] @ cost[:, :, None])[:, :, 0]
    return total


def _shares(network: Sequence[Operation], known: Limits, sets: Sets) -> dict[int, Tensor]:
    """How much of the way each ReLU's input moves each side of a box makes, `(b, inputs, n)`.

    One interval pass a side, in which all others are points.
    """
    width = (sets.high - sets.low).flatten(1) / 2
    count, inputs = width.shape
    moved = [torch.diag_embed(width).view(count * inputs, *network[0].node.shape)]
    shares = {}
    for position, part in enumerate(network[1:], start=1):
        sources = [moved[i] for i in part.node.inputs]
        if part.node.kind != "relu":
            moved.append(linear(absolute(part), sources))
            continue
        each = sources[0].view(count, inputs, -1)
        shares[position] = each / each.sum(dim=1, keepdim=True).clamp(min=1e-30)
        through = (known.upper[position] > 0).flatten(1)[:, None]
        moved.append((each * through).view(count * inputs, *part.node.shape))
    return shares
