"""Rows proved over a box of few parameters by halving it, with a proof that can be checked."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustbench_med.certify.cutting import Halving, Pieces, cut_until
from robustbench_med.certify.input_sets import on_torch
from robustbench_med.certify.ladder import Rows
from robustbench_med.certify.torch_nodes import operations
from robustbench_med.proofs.derive import MARGIN, derive, on_leaf, standing
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import Base, Claims, InputSet, Leaf, Proof

Status = Literal["certified", "falsified", "undecided"]
# Limits are derived again after the search, with rounding; they come out lower by less than this.
AHEAD = 1e-7


@dataclass(frozen=True)
class Parametric:
    """What is known of some rows over a box of parameters.

    Attributes:
        status: Of each row.
        proof: Of the certified rows, in their order; `proofs.check.check` accepts it.
        falsifiers: `(k,)` by row: parameters at which it is below what is needed.
        boxes: How many boxes were bounded.
    """

    status: tuple[Status, ...]
    proof: Proof
    falsifiers: dict[int, Floats]
    boxes: int

    @property
    def certified(self) -> bool:
        """Whether every row is."""
        return all(each == "certified" for each in self.status)


def certify_parameters(
    network: Network,
    inputs: InputSet,
    rows: Rows,
    *,
    needed: float = 0.0,
    halving: Halving | None = None,
) -> Parametric:
    """Prove rows over a box of parameters, or falsify them, by halving the box.

    Boxes are sought in torch (float64). What they came to is then derived again, each box with
    hidden limits of its own, in float64 with every rounding accounted for; only a row that this
    finds above what is needed on all of its boxes is certified. A row is falsified by its value at
    a point of the box, computed in float64.

    Args:
        network: Of an input `(k,)`, such as `with_bias_field` writes.
        inputs: The box.
        rows: Of its outputs, at least one.
        needed: A row is certified if it is above this.
        halving: How far to go.
    """
    pieces = searched(network, inputs, rows, needed, halving)
    broken = falsified(network, rows, pieces, needed)
    ahead = _ahead(needed)
    wanted = [
        row
        for row in range(len(rows))
        if row not in pieces.falsifiers and float(pieces.limits[row]) >= ahead
    ]
    proof, proved = _proof(network, inputs, rows, pieces, wanted, needed)
    status: list[Status] = ["undecided"] * len(rows)
    for row in broken:
        status[row] = "falsified"
    for row in proved:
        status[row] = "certified"
    return Parametric(tuple(status), proof, broken, pieces.boxes)


def searched(
    network: Network, inputs: InputSet, rows: Rows, needed: float, halving: Halving | None
) -> Pieces:
    """Halve boxes in torch until rows are decided; nothing is derived rigorously yet."""
    like = torch.zeros((), dtype=torch.float64)
    parts, sets = operations(network, like), on_torch(inputs, like)
    dense = _dense(rows, size(network.nodes[-1].shape))
    return cut_until(parts, sets, dense, needed=_ahead(needed), halving=halving)


def falsified(network: Network, rows: Rows, pieces: Pieces, needed: float) -> dict[int, Floats]:
    """Keep of a search's falsifiers those whose value, computed by NumPy, is below `needed`."""
    broken = {}
    for row, point in pieces.falsifiers.items():
        theta = point.numpy(force=True)
        output = values(network, theta)[-1].ravel()
        if output[rows.columns[row]] @ rows.values[row] < needed:
            broken[row] = theta
    return broken


def _ahead(needed: float) -> float:
    return needed + AHEAD * (1 + abs(needed))


def _dense(rows: Rows, outputs: int) -> Tensor:
    dense = np.zeros((len(rows), outputs))
    np.put_along_axis(dense, rows.columns, rows.values, axis=1)
    return torch.from_numpy(dense)


def _proof(
    network: Network,
    inputs: InputSet,
    rows: Rows,
    pieces: Pieces,
    wanted: list[int],
    needed: float,
) -> tuple[Proof, list[int]]:
    """Derive every box of the wanted rows; claim those that stay above what is needed."""
    limits = dict.fromkeys(wanted, np.inf)
    bases: list[tuple[Base, list[int]]] = []
    for piece in pieces.pieces:
        here = [row for row in piece.rows if row in limits]
        if not here:
            continue
        base = derive(network, inputs, piece.cuts)
        ground, own = standing(network, inputs, base), np.array(here)
        leaf = Leaf(0, own)
        found = on_leaf(ground, base, leaf, rows.columns[own], rows.values[own])
        for row, limit in zip(here, found.tolist(), strict=True):
            limits[row] = min(limits[row], limit - MARGIN * (1 + abs(limit)))
        bases.append((base, here))
    proved = [row for row in wanted if limits[row] > needed]
    place = {row: claim for claim, row in enumerate(proved)}
    kept = [(base, [place[r] for r in own if r in place]) for base, own in bases]
    kept = [(base, own) for base, own in kept if own]
    claimed = np.array([limits[row] for row in proved], dtype=np.float64)
    claims = Claims(rows.columns[proved], rows.values[proved], claimed)
    leaves = tuple(Leaf(at, np.array(own)) for at, (_, own) in enumerate(kept))
    return Proof(inputs, claims, tuple(base for base, _ in kept), leaves), proved
