"""Between what limits rows stay over a set of few dimensions: for certified clinical intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certify.boxes import Part, bounded, sets_of
from robustbench_med.certify.input_sets import Sets
from robustbench_med.certify.torch_nodes import Operation
from robustbench_med.proofs.proof import Cut


@dataclass(frozen=True)
class Ranges:
    """Limits of rows on both sides, from boxes that together are the set.

    Attributes:
        lower: `(r,)`.
        upper: `(r,)`.
        cuts: Of the network's input, for each of `b` boxes: a tree.
        lowers: `(b, r)`, on each box.
        uppers: `(b, r)`.
    """

    lower: Tensor
    upper: Tensor
    cuts: tuple[tuple[Cut, ...], ...]
    lowers: Tensor
    uppers: Tensor


def range_over(
    network: Sequence[Operation],
    sets: Sets,
    rows: Tensor,
    *,
    boxes: int = 64,
    together: int = 16,
) -> Ranges:
    """Halve boxes, those that decide the limits of most rows first, until there are so many.

    The limits hold in real arithmetic, but for the rounding of the tensors' type.

    Args:
        network: The network.
        sets: One set.
        rows: `(r, m)`, of the flattened outputs, at least one.
        boxes: That the set is cut into, at most.
        together: Boxes halved at a time.
    """
    both = torch.cat([rows, -rows])
    parts = [Part((), sets.low[0], sets.high[0])]
    limits, promise = _limits(network, sets, both, parts)
    while (left := boxes - len(parts)) > 0:
        worst = limits.argmin(dim=0)
        gains = promise.sum(dim=2).gather(0, worst[None])[0] > 0
        deciding = torch.bincount(worst[gains], minlength=len(parts))
        order = deciding.argsort(descending=True, stable=True)[: min(left, together)]
        chosen = [i for i in order.tolist() if deciding[i]]
        if not chosen:
            break  # every row is linear on the box where it is lowest
        sides = promise[chosen].sum(dim=1).argmax(dim=1).tolist()
        pairs = zip(chosen, sides, strict=True)
        halves = [half for i, side in pairs for half in parts[i].halves(side)]
        more = _limits(network, sets, both, halves)
        kept = [i for i in range(len(parts)) if i not in set(chosen)]
        parts = [*(parts[i] for i in kept), *halves]
        limits = torch.cat([limits[kept], more[0]])
        promise = torch.cat([promise[kept], more[1]])
    lowers, uppers = limits.tensor_split(2, dim=1)
    return Ranges(
        lowers.amin(dim=0),
        -uppers.amin(dim=0),
        tuple(part.cuts for part in parts),
        lowers,
        -uppers,
    )


def _limits(
    network: Sequence[Operation], sets: Sets, rows: Tensor, parts: Sequence[Part]
) -> tuple[Tensor, Tensor]:
    """Limits `(b, r)` of all rows on some boxes, and what halving promises, `(b, r, inputs)`."""
    count = len(rows)
    box = torch.arange(len(parts), device=rows.device).repeat_interleave(count)
    row = torch.arange(count, device=rows.device).repeat(len(parts))
    with torch.no_grad():
        found = bounded(network, sets_of(parts, sets), rows, box, row)
    return found.limits.view(len(parts), count), found.promise.view(len(parts), count, -1)
