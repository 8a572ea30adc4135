"""Branch and bound on ReLU splits, for a margin that one bound leaves undecided."""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from robustbench_med.certify.backward import Problem, backward
from robustbench_med.certify.dual import Ascent, Dual, improved, leaf
from robustbench_med.certify.hidden import Limits, rows_that_fit
from robustbench_med.certify.input_sets import Sets, minimiser
from robustbench_med.certify.settled import exact
from robustbench_med.certify.splitting import Sub, best_split, candidates, children, started_at
from robustbench_med.certify.torch_nodes import Operation, values
from robustbench_med.proofs.proof import Cut, Leaf


@dataclass(frozen=True)
class Search:
    """How far a search goes.

    Attributes:
        budget: Subproblems bounded at most, the whole set being the first.
        together: Subproblems split at a time, those with the lowest limits.
        tried: ReLUs that are tried before one is split.
        ascent: How each subproblem is bounded.
    """

    budget: int = 1000
    together: int = 16
    tried: int = 8
    ascent: Ascent = field(default_factory=lambda: Ascent(steps=10))


@dataclass(frozen=True)
class Branched:
    """What a search came to.

    Attributes:
        limit: What the row is at least, over the whole set.
        leaves: Parts that cover the set, each with what bounds the row there.
        falsifier: `(*input)`, a point of the set where the row is below what is needed; or None.
        subproblems: How many were bounded.
    """

    limit: float
    leaves: tuple[Leaf, ...]
    falsifier: Tensor | None
    subproblems: int


def branch(
    parts: Sequence[Operation],
    limits: Limits,
    sets: Sets,
    row: Tensor,
    *,
    needed: float = 0.0,
    search: Search | None = None,
) -> Branched:
    """Split ReLUs, the part with the lowest limit first, until a row is proved or falsified.

    The limit holds in real arithmetic, but for the rounding of the tensors' type.

    Args:
        parts: The network.
        limits: Of every ReLU's input over the set, `(1, *shape)` each.
        sets: One set.
        row: `(m,)`, of the flattened outputs.
        needed: The search ends once the row is proved to be at least this.
        search: How far to go.

    Returns:
        Leaves stand on base 0 and prove row 0; `placed` moves them.

    Source: Bunel et al., JMLR 21 (2020) (branch and bound); Wang et al., NeurIPS 2021,
        arXiv:2103.06624 (bounds); De Palma et al., arXiv:2104.06718 (choice of splits).
    """
    tree = _Tree(parts, limits, sets, row, needed, search or Search())
    tree.grow()
    return tree.result()


def placed(leaves: Iterable[Leaf], base: int, row: int) -> tuple[Leaf, ...]:
    """Let leaves of one row stand on another base, and prove another row."""
    return tuple(replace(each, base=base, rows=np.array([row])) for each in leaves)


class _Tree:
    """Open and closed parts of one search."""

    def __init__(
        self,
        parts: Sequence[Operation],
        limits: Limits,
        sets: Sets,
        row: Tensor,
        needed: float,
        search: Search,
    ) -> None:
        last = len(parts) - 1
        start = {last: row.reshape(1, *parts[last].node.shape)}
        self.problem = Problem(parts, start, limits.lines, sets)
        self.limits, self.needed, self.search = limits, needed, search
        self.falsifier: Tensor | None = None
        self.closed: list[Sub] = []
        self.open: list[tuple[float, int, Sub]] = []
        whole = improved(self.problem, limits.slopes, needed=needed, ascent=search.ascent)
        self.count, self.order = 1, itertools.count()
        self.whole = _subs(whole, [()])[0]
        self._meet(minimiser(sets, whole.coefficient))
        self._put([self.whole])

    def grow(self) -> None:
        """Split until everything is proved, something is falsified, or the budget is spent."""
        while self.open and self.falsifier is None and self.count + 2 <= self.search.budget:
            most = min(self.search.together, (self.search.budget - self.count) // 2)
            chosen = [heapq.heappop(self.open)[2] for _ in range(min(most, len(self.open)))]
            items: list[tuple[Sub, tuple[Cut, ...]]] = []
            for sub in chosen:
                tried = candidates(self.limits, sub, self.search.tried)
                place = best_split(self.problem, self.limits, sub, tried, self.needed)
                items += [(sub, (*sub.cuts, cut)) for cut in children(place)]
            self.count += len(items)
            fit = max(rows_that_fit(self.problem.parts, self.whole.multipliers) // 4, 1)
            for first in range(0, len(items), fit):
                self._bound(items[first : first + fit])

    def result(self) -> Branched:
        """Collect all parts; one alone where splitting made nothing better."""
        subs = [*self.closed, *(sub for _, _, sub in self.open)]
        if min(sub.limit for sub in subs) <= self.whole.limit:
            subs = [self.whole]
        leaves = tuple(_leaf(sub) for sub in subs)
        return Branched(min(s.limit for s in subs), leaves, self.falsifier, self.count)

    def _bound(self, items: Sequence[tuple[Sub, tuple[Cut, ...]]]) -> None:
        start = started_at(self.problem, self.limits, items)
        dual = improved(
            start.problem,
            start.slopes,
            start.multipliers,
            needed=self.needed,
            ascent=self.search.ascent,
        )
        self._meet(minimiser(self.problem.sets, dual.coefficient))
        self._put(_subs(dual, [cuts for _, cuts in items]))

    def _put(self, subs: Sequence[Sub]) -> None:
        for sub in subs:
            if sub.limit >= self.needed:
                self.closed.append(replace(sub, relus={}))  # it will not be split
            elif candidates(self.limits, sub, 1):
                heapq.heappush(self.open, (sub.limit, next(self.order), sub))
            else:
                self.closed.append(self._settled(sub))

    def _settled(self, sub: Sub) -> Sub:
        """Bound a part where the network is linear as well as can be."""
        start = started_at(self.problem, self.limits, [(sub, sub.cuts)])
        found = exact(start.problem, start.slopes, self.needed)
        if found is None:
            return sub
        if found.point is not None:
            self._meet(found.point)
        with torch.no_grad():
            limit = backward(start.problem, start.slopes, found.multipliers).limits.item()
        if limit <= sub.limit:
            return sub
        return replace(sub, limit=limit, multipliers=found.multipliers)

    def _meet(self, points: Tensor) -> None:
        """Look whether the row is below what is needed at points of the set."""
        if self.falsifier is not None:
            return
        (row,) = self.problem.start.values()
        with torch.no_grad():
            found = (values(self.problem.parts, points)[-1] * row).flatten(1).sum(dim=1)
        lowest = found.argmin()
        if found[lowest] < self.needed:
            self.falsifier = points[lowest].clone()


def _subs(dual: Dual, cuts: Sequence[tuple[Cut, ...]]) -> list[Sub]:
    def own(values_of: dict[int, Tensor], item: int) -> dict[int, Tensor]:
        return {at: value[item : item + 1].clone() for at, value in values_of.items()}

    return [
        Sub(
            each,
            dual.limits[item].item(),
            own(dict(dual.slopes), item),
            dual.multipliers[item : item + 1, : len(each)].clone(),
            own(dict(dual.relus), item),
        )
        for item, each in enumerate(cuts)
    ]


def _leaf(sub: Sub) -> Leaf:
    return leaf(sub.slopes, sub.multipliers, sub.cuts, np.array([0]))
