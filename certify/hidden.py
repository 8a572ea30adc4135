"""Limits of every ReLU's input over a batch of sets: intervals first, lines for what is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certify.backward import Lines, Problem, adaptive, backward, lines
from robustbench_med.certify.chunks import BUDGET_BYTES, in_chunks, rows_at_once
from robustbench_med.certify.input_sets import Sets
from robustbench_med.certify.torch_nodes import Operation, absolute, added, linear, widest


@dataclass(frozen=True)
class Limits:
    """Limits of every ReLU's input, `(b, *shape)` by position, and lines that follow from them.

    Attributes:
        lower: What the inputs are at least.
        upper: What they are at most.
        lines: Above and below each ReLU.
        slopes: Of the lines below, adaptive.
    """

    lower: Mapping[int, Tensor]
    upper: Mapping[int, Tensor]
    lines: Mapping[int, Lines]
    slopes: Mapping[int, Tensor]


def limits_of(lower: Mapping[int, Tensor], upper: Mapping[int, Tensor]) -> Limits:
    """Complete limits with the lines that follow from them."""
    between = {node: lines(lower[node], upper[node]) for node in lower}
    slopes = {node: adaptive(lower[node], upper[node]) for node in lower}
    return Limits(dict(lower), dict(upper), between, slopes)


def rows_that_fit(parts: Sequence[Operation], like: Tensor, budget: int = BUDGET_BYTES) -> int:
    """Rows of a backward pass that are worked on together."""
    return rows_at_once(widest(parts), like.element_size(), budget, like.device)


def hidden_limits(parts: Sequence[Operation], sets: Sets, budget: int = BUDGET_BYTES) -> Limits:
    """Bound every ReLU's input over each of `b` sets, in real arithmetic but for rounding.

    Args:
        parts: The network.
        sets: Of inputs.
        budget: Bytes that a chunk of rows may take.

    Source: Gowal et al., arXiv:1810.12715 (intervals); Zhang et al., NeurIPS 2018,
        arXiv:1811.00866 (lines).
    """
    known = limits_of({}, {})
    spans: list[tuple[Tensor, Tensor]] = [_start(sets)]
    for position, part in enumerate(parts[1:], start=1):
        inputs = [spans[i] for i in part.node.inputs]
        if part.node.kind != "relu":
            spans.append(_interval(part, inputs))
            continue
        low, high = _tightened(parts, sets, known, part.node.inputs[0], inputs[0], budget)
        spans.append((low.clamp(min=0), high.clamp(min=0)))
        known = limits_of({**known.lower, position: low}, {**known.upper, position: high})
    return known


def _start(sets: Sets) -> tuple[Tensor, Tensor]:
    if sets.centre is None:
        return sets.low, sets.high
    low = torch.maximum(sets.low, sets.centre - sets.radius)
    return low, torch.minimum(sets.high, sets.centre + sets.radius)


def _interval(part: Operation, inputs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    middle = linear(part, [(high + low) / 2 for low, high in inputs])
    reach = linear(absolute(part), [(high - low) / 2 for low, high in inputs])
    shift = added(part)
    middle = middle if shift is None else middle + shift
    return middle - reach, middle + reach


def _tightened(
    parts: Sequence[Operation],
    sets: Sets,
    known: Limits,
    node: int,
    span: tuple[Tensor, Tensor],
    budget: int,
) -> tuple[Tensor, Tensor]:
    shape = span[0].shape
    low, high = (side.flatten(1).clone() for side in span)
    item, element = ((low < 0) & (high > 0)).nonzero(as_tuple=True)
    if not len(item):
        return span

    def work(part: slice) -> Tensor:
        found = []
        for sign in (1.0, -1.0):
            start = low.new_zeros(len(item[part]), low.shape[1])
            start.scatter_(1, element[part, None], sign)
            problem = Problem(
                parts,
                {node: start.view(-1, *shape[1:])},
                {at: each.pick(item[part]) for at, each in known.lines.items()},
                sets.pick(item[part]),
            )
            slopes = {
                at: slope if len(slope) == 1 else slope[item[part]]
                for at, slope in known.slopes.items()
            }
            found.append(sign * backward(problem, slopes).limits)
        return torch.stack(found, dim=1)

    both = in_chunks(work, len(item), rows_that_fit(parts, low, budget))
    low[item, element] = torch.maximum(low[item, element], both[:, 0])
    high[item, element] = torch.minimum(high[item, element], both[:, 1])
    return low.view(shape), high.view(shape)
