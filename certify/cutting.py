"""Branch and bound over the input box, for sets of few dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certify.boxes import Part, bounded, sets_of
from robustbench_med.certify.input_sets import Sets
from robustbench_med.certify.torch_nodes import Operation, values
from robustbench_med.proofs.proof import Cut


@dataclass(frozen=True)
class Piece:
    """A box, and the rows that need no smaller one.

    Attributes:
        cuts: Of the network's input, from the whole set down.
        rows: Positions of rows, in order.
        limits: What each of them is at least on the box.
    """

    cuts: tuple[Cut, ...]
    rows: tuple[int, ...]
    limits: tuple[float, ...]


@dataclass(frozen=True)
class Pieces:
    """What a search over boxes came to.

    Attributes:
        limits: `(r,)`, what each row is at least over the whole set.
        pieces: Boxes; those that name a row cover the set.
        falsifiers: `(*input)` by row: a point of the set where it is below what is needed.
        boxes: How many were bounded.
    """

    limits: Tensor
    pieces: tuple[Piece, ...]
    falsifiers: dict[int, Tensor]
    boxes: int


@dataclass(frozen=True)
class Halving:
    """How far a search over boxes goes.

    Attributes:
        budget: Boxes bounded at most, the whole set being the first.
        together: Boxes halved at a time, those with the lowest limits.
    """

    budget: int = 1000
    together: int = 32


def cut_until(
    network: Sequence[Operation],
    sets: Sets,
    rows: Tensor,
    *,
    needed: float = 0.0,
    halving: Halving | None = None,
) -> Pieces:
    """Halve boxes, the one with the lowest limit first, until every row is proved or falsified.

    A box is halved along the side that makes most of what open ReLUs may cost its rows. Limits of
    ReLUs are found anew on every box. A row that is falsified is not looked at any further. All
    limits hold in real arithmetic, but for the rounding of the tensors' type.

    Args:
        network: The network.
        sets: One set.
        rows: `(r, m)`, of the flattened outputs, at least one.
        needed: A row is proved once it is at least this on every box.
        halving: How far to go.

    Source: Wang et al., USENIX Security 2018, arXiv:1804.10829, section 4.3 (halving the input);
        Bunel et al., JMLR 21 (2020), section 5.1 (the side that promises most).
    """
    halving = halving or Halving()
    search = _Search(network, sets, rows, needed)
    search.bound([(Part((), sets.low[0], sets.high[0]), tuple(range(len(rows))))])
    while (left := (halving.budget - search.boxes) // 2) > 0:
        chosen = search.lowest(min(left, halving.together))
        if not chosen:
            break
        search.bound([(half, each.rows) for each in chosen for half in each.halves()])
    return search.result()


@dataclass(frozen=True)
class _Open:
    """A box with the rows that are not proved on it, their limits and the side to halve."""

    part: Part
    rows: tuple[int, ...]
    limits: tuple[float, ...]
    side: int

    def halves(self) -> tuple[Part, Part]:
        return self.part.halves(self.side)


class _Search:
    """Open boxes and closed pieces of one search."""

    def __init__(
        self, network: Sequence[Operation], sets: Sets, rows: Tensor, needed: float
    ) -> None:
        self.network, self.sets, self.rows, self.needed = network, sets, rows, needed
        self.open: list[_Open] = []
        self.pieces: list[Piece] = []
        self.falsifiers: dict[int, Tensor] = {}
        self.boxes = 0

    def lowest(self, count: int) -> list[_Open]:
        """Take the open boxes with the lowest limits out, with the rows that nothing falsifies."""
        alive = [piece for each in self.open for piece in self._alive(each)]
        alive.sort(key=lambda each: min(each.limits))
        self.open = alive[count:]
        return alive[:count]

    def bound(self, asked: Sequence[tuple[Part, tuple[int, ...]]]) -> None:
        """Bound rows on boxes, and sort them into proved and open."""
        like = self.rows
        pairs = [(box, row) for box, (_, rows) in enumerate(asked) for row in rows]
        box, row = torch.tensor(pairs, device=like.device).T
        sets = sets_of([part for part, _ in asked], self.sets)
        with torch.no_grad():
            found = bounded(self.network, sets, self.rows, box, row)
            self._meet(found.points)
        self.boxes += len(asked)
        limits = found.limits.tolist()
        place = 0
        for part, rows in asked:
            own = slice(place, place := place + len(rows))
            still = [i for i in range(own.start, own.stop) if not limits[i] >= self.needed]
            proved = [i for i in range(own.start, own.stop) if limits[i] >= self.needed]
            if proved:
                self._close(part.cuts, [pairs[i][1] for i in proved], [limits[i] for i in proved])
            if still:
                side = int(found.promise[still].sum(dim=0).argmax())
                names = tuple(pairs[i][1] for i in still)
                self.open.append(_Open(part, names, tuple(limits[i] for i in still), side))

    def result(self) -> Pieces:
        """Close what is open."""
        for each in self.open:
            self._close(each.part.cuts, each.rows, each.limits)
        limits = [float("inf")] * len(self.rows)
        for piece in self.pieces:
            for row, limit in zip(piece.rows, piece.limits, strict=True):
                limits[row] = min(limits[row], limit)
        least = torch.tensor(limits, dtype=torch.float64).to(self.rows)
        return Pieces(least, tuple(self.pieces), self.falsifiers, self.boxes)

    def _close(self, cuts: tuple[Cut, ...], rows: Sequence[int], limits: Sequence[float]) -> None:
        self.pieces.append(Piece(cuts, tuple(rows), tuple(limits)))

    def _alive(self, each: _Open) -> list[_Open]:
        dead = [i for i, row in enumerate(each.rows) if row in self.falsifiers]
        if not dead:
            return [each]
        self._close(each.part.cuts, [each.rows[i] for i in dead], [each.limits[i] for i in dead])
        rest = [i for i in range(len(each.rows)) if i not in dead]
        rows, limits = tuple(each.rows[i] for i in rest), tuple(each.limits[i] for i in rest)
        return [_Open(each.part, rows, limits, each.side)] if rest else []

    def _meet(self, points: Tensor) -> None:
        """Look which rows are below what is needed at points of the set."""
        outputs = values(self.network, points)[-1].flatten(1) @ self.rows.T
        least, where = outputs.min(dim=0)
        for row in (least < self.needed).nonzero().flatten().tolist():
            self.falsifiers.setdefault(row, points[where[row]].clone())
