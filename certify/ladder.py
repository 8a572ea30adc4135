"""From cheap bounds to dear ones, each on what the last left undecided, all of them checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from robustbench_med.certify.backward import Problem
from robustbench_med.certify.branching import Search, branch, placed
from robustbench_med.certify.dual import Ascent, improved, leaf
from robustbench_med.certify.hidden import limits_of, rows_that_fit
from robustbench_med.certify.input_sets import on_torch
from robustbench_med.certify.torch_nodes import Operation, operations
from robustbench_med.proofs.derive import MARGIN, Hidden, derive, on_leaf, standing
from robustbench_med.proofs.linear import Ground
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import Base, Claims, Indices, InputSet, Leaf, Proof

Rung = Literal["ibp", "crown_ibp", "crown", "alpha_crown", "branch_and_bound"]
RUNGS: tuple[Rung, ...] = ("ibp", "crown_ibp", "crown", "alpha_crown", "branch_and_bound")
# Rows that a rung is tried on first, and the share of them that it has to decide to go on.
TASTED, WORTH = 64, 0.05


@dataclass(frozen=True)
class Rows:
    """Linear functions of the flattened outputs, as in `Claims`.

    Attributes:
        columns: `(r, t)`.
        values: `(r, t)`.
    """

    columns: Indices
    values: Floats

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True)
class Effort:
    """How far the ladder is climbed.

    Attributes:
        upto: The last rung.
        needed: A row above this is proved, and not bounded more closely.
        close: Whether lines bound rows that are proved, too, for their limits' own sake.
        search: Of branch and bound, for each row.
        most: Rows at most that slopes or splits of their own are sought for, the nearest first.
    """

    upto: Rung = "crown"
    needed: float = 0.0
    close: bool = False
    search: Search = field(default_factory=Search)
    most: int = 256


@dataclass(frozen=True)
class Climbed:
    """What the ladder came to.

    Attributes:
        limits: `(r,)`, what each row is at least; rigorous, in real arithmetic of the network.
        proof: Of the rows above what is needed, in their order.
        falsifiers: `(*input)` by row: a point of the set where it is not above what is needed.
    """

    limits: Floats
    proof: Proof
    falsifiers: dict[int, Floats]


def climb(network: Network, inputs: InputSet, rows: Rows, effort: Effort) -> Climbed:
    """Bound rows from below over a set, with all that it takes to do so again.

    Hidden limits and the limits of all rows are those that the checker derives, in float64 with
    every rounding accounted for; slopes and splits are sought in torch, and then derived like the
    rest. A rung that decides too few of some rows is left out for the others.

    Args:
        network: Written out.
        inputs: The set.
        rows: Of its outputs, at least one.
        effort: How far.
    """
    ladder = _Ladder(network, inputs, rows, effort)
    upto = RUNGS.index(effort.upto)
    ladder.by_intervals()
    kinds: Sequence[Hidden] = ("intervals", "linear")
    for rung, hidden in enumerate(kinds[:upto], start=1):
        if effort.close and rung < min(upto, 2):
            continue  # the next one is closer for every row
        ladder.by_lines(hidden)
    if upto >= RUNGS.index("alpha_crown"):
        ladder.by_own_slopes()
    if upto >= RUNGS.index("branch_and_bound"):
        ladder.by_branches()
    return ladder.result()


class _Ladder:
    def __init__(self, network: Network, inputs: InputSet, rows: Rows, effort: Effort) -> None:
        self.network, self.inputs, self.rows, self.effort = network, inputs, rows, effort
        self.limits = np.full(len(rows), -np.inf)
        self.own: dict[int, tuple[Leaf, ...]] = {}  # leaves of each row; none: by intervals
        self.bases: list[Base] = []
        self.falsifiers: dict[int, Floats] = {}
        self.ground: Ground | None = None
        self.parts: tuple[Operation, ...] = ()

    def left(self) -> Indices:
        """Rows that are not proved, or all of them where limits are wanted for their own sake."""
        if self.effort.close:
            return np.arange(len(self.rows))
        return np.flatnonzero(~(self.limits > self.effort.needed))

    def by_intervals(self) -> None:
        ground = Ground(self.network, self.inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in self.network.nodes:
                ground.add()
        rows = self.rows
        self.limits = on_leaf(ground, Base((), {}, {}, {}), None, rows.columns, rows.values)

    def by_lines(self, hidden: Hidden) -> None:
        todo = self.left()
        if not len(todo):
            return
        base = derive(self.network, self.inputs, hidden=hidden)
        self.ground = standing(self.network, self.inputs, base)
        self.bases.append(base)
        if hidden == "intervals" and not self.effort.close and len(todo) > 2 * TASTED:
            some = todo[:: len(todo) // TASTED]
            if (self._on(Leaf(len(self.bases) - 1, some)) > self.effort.needed).mean() < WORTH:
                return
        for row, limit in zip(todo, self._on(Leaf(len(self.bases) - 1, todo)), strict=True):
            self._keep(int(row), limit, (Leaf(len(self.bases) - 1, np.array([row])),))

    def by_own_slopes(self) -> None:
        for some in self._nearest(max(rows_that_fit(*self._torch()) // 4, 1)):
            problem = self._problem(some)
            slopes = limits_of(*self._hidden()).slopes
            found = improved(problem, slopes, needed=self._aim(), ascent=Ascent())
            written = leaf(found.slopes, found.multipliers, (), some, len(self.bases) - 1)
            for at, (row, limit) in enumerate(zip(some, self._on(written), strict=True)):
                one = {node: each[at : at + 1] for node, each in written.slopes.items()}
                self._keep(int(row), limit, (Leaf(written.base, np.array([row]), (), one),))

    def by_branches(self) -> None:
        parts, like = self._torch()
        for some in self._nearest(1):
            limits, sets = limits_of(*self._hidden()), on_torch(self.inputs, like)
            dense = torch.as_tensor(self._dense(some)[0])
            aim, search = self._aim(), self.effort.search
            found = branch(parts, limits, sets, dense, needed=aim, search=search)
            row = int(some[0])
            if found.falsifier is not None:
                self.falsifiers[row] = found.falsifier.double().numpy(force=True)
                continue
            leaves = placed(found.leaves, len(self.bases) - 1, row)
            self._keep(row, min(float(self._on(each)[0]) for each in leaves), leaves)

    def result(self) -> Climbed:
        # A little lower, so that it is derived again where sums are rounded otherwise.
        limits = self.limits - MARGIN * (1 + np.abs(self.limits))
        proved = np.flatnonzero(limits > self.effort.needed)
        plain: dict[int, list[int]] = {}
        leaves: list[Leaf] = []
        for claim, row in enumerate(proved.tolist()):
            own = self.own.get(row, ())
            if len(own) == 1 and not own[0].slopes and not own[0].cuts:
                plain.setdefault(own[0].base, []).append(claim)
            else:
                at = np.array([claim])
                leaves += [Leaf(e.base, at, e.cuts, e.slopes, e.multipliers) for e in own]
        leaves += [Leaf(base, np.array(rows)) for base, rows in plain.items()]
        claims = Claims(self.rows.columns[proved], self.rows.values[proved], limits[proved])
        return Climbed(limits, _without_idle(self.inputs, claims, self.bases, leaves),
                       self.falsifiers)  # fmt: skip

    def _on(self, leaf: Leaf) -> Floats:
        if self.ground is None:
            raise RuntimeError("ladder: a leaf before a base")
        enough = None if self.effort.close else np.full(len(leaf.rows), self.effort.needed)
        columns, values = self.rows.columns[leaf.rows], self.rows.values[leaf.rows]
        return on_leaf(self.ground, self.bases[leaf.base], leaf, columns, values, enough=enough)

    def _keep(self, row: int, limit: float, leaves: tuple[Leaf, ...]) -> None:
        if limit > self.limits[row]:
            self.limits[row], self.own[row] = limit, leaves

    def _nearest(self, together: int) -> list[Indices]:
        todo = np.flatnonzero(~(self.limits > self.effort.needed))
        todo = todo[np.argsort(-self.limits[todo], kind="stable")][: self.effort.most]
        return [todo[at : at + together] for at in range(0, len(todo), together)]

    def _aim(self) -> float:
        # A little above what is needed, so that it is still above when it is derived again.
        return self.effort.needed + 1e-7 * (1 + abs(self.effort.needed))

    def _torch(self) -> tuple[tuple[Operation, ...], torch.Tensor]:
        like = torch.zeros((), dtype=torch.float64)
        if not self.parts:
            self.parts = operations(self.network, like)
        return self.parts, like

    def _hidden(self) -> Sequence[dict[int, torch.Tensor]]:
        base = self.bases[-1]
        return [
            {at: torch.as_tensor(limit)[None] for at, limit in side.items()}
            for side in (base.lower, base.upper)
        ]

    def _problem(self, some: Indices) -> Problem:
        parts, like = self._torch()
        last = len(parts) - 1
        rows = torch.as_tensor(self._dense(some)).view(-1, *parts[last].node.shape)
        lines = limits_of(*self._hidden()).lines
        return Problem(parts, {last: rows}, lines, on_torch(self.inputs, like))

    def _dense(self, some: Indices) -> Floats:
        rows = np.zeros((len(some), size(self.network.nodes[-1].shape)))
        rows[np.arange(len(some))[:, None], self.rows.columns[some]] = self.rows.values[some]
        return rows


def _without_idle(
    inputs: InputSet, claims: Claims, bases: Sequence[Base], leaves: Sequence[Leaf]
) -> Proof:
    """Leave out bases that nothing stands on."""
    used = sorted({each.base for each in leaves})
    moved: Callable[[int], int] = used.index
    placed_ = tuple(Leaf(moved(e.base), e.rows, e.cuts, e.slopes, e.multipliers) for e in leaves)
    return Proof(inputs, claims, tuple(bases[at] for at in used), placed_)
