"""Multipliers of the cuts where every ReLU is settled: a linear programme gives the best."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from robustbench_med.certify.backward import Cuts, Problem, backward
from robustbench_med.proofs.network import Floats, size

# Below it, that the cuts contradict each other may be due to rounding.
SMALLEST_GAP = 1e-9


@dataclass(frozen=True)
class Exact:
    """What a linear programme found.

    Attributes:
        multipliers: `(1, d)`, of the cuts.
        point: `(1, *input)`, where the row is least; None where no point obeys the cuts.
    """

    multipliers: Tensor
    point: Tensor | None


def exact(problem: Problem, slopes: Mapping[int, Tensor], needed: float) -> Exact | None:
    """Find the multipliers that bound a row exactly where the network is linear.

    On a part where the cuts contradict each other any limit holds; then it is one above `needed`.

    Args:
        problem: One subproblem over a box, whose cuts leave no ReLU open.
        slopes: `(1, *shape)` by position of each ReLU; none of them matters.
        needed: Limit at which the row is settled.

    Returns:
        None if the set has a ball, there are no cuts, or the programme was not solved.
    """
    cuts = problem.cuts
    if cuts is None or problem.sets.centre is not None or not cuts.node.shape[1]:
        return None
    row, constant = _function(problem, slopes)
    matrix, limit = _sides(problem, slopes, cuts)
    low, high = (
        side.double().numpy(force=True).ravel() for side in (problem.sets.low, problem.sets.high)
    )
    found = linprog(row, matrix, limit, bounds=np.stack([low, high], axis=1), method="highs")
    like = problem.sets.low
    if found.status == 0:
        point = torch.as_tensor(np.clip(found.x, low, high)).to(like).view_as(like)
        return Exact(_factors(found.ineqlin.marginals, like), point)
    weights = _contradiction(matrix, limit, low, high) if found.status == 2 else 0 * limit
    above = weights @ matrix
    gap = np.minimum(above * low, above * high).sum() - weights @ limit
    if gap <= SMALLEST_GAP:
        return None
    short = needed + 1 - (np.minimum(row * low, row * high).sum() + constant)
    return Exact(_factors(-weights * max(short, 0) / gap, like), None)


def _factors(marginals: Floats, like: Tensor) -> Tensor:
    return torch.as_tensor(np.maximum(-marginals, 0)).to(like)[None]


def _sides(problem: Problem, slopes: Mapping[int, Tensor], cuts: Cuts) -> tuple[Floats, Floats]:
    """The cuts as `matrix @ input <= limit`."""
    sides = [
        _function(_cut_value(problem, cuts, index), slopes) for index in range(cuts.node.shape[1])
    ]
    return np.stack([side[0] for side in sides]), -np.array([side[1] for side in sides])


def _contradiction(matrix: Floats, limit: Floats, low: Floats, high: Floats) -> Floats:
    """Weights of cuts, one in all, whose weighted sum is above its limit all over the box."""
    count = len(limit)
    cost = np.append(np.zeros(matrix.shape[1]), 1.0)
    slack = np.hstack([matrix, -np.ones((count, 1))])
    bounds = np.stack([np.append(low, -np.inf), np.append(high, np.inf)], axis=1)
    found = linprog(cost, slack, limit, bounds=bounds, method="highs")
    return np.maximum(-found.ineqlin.marginals, 0) if found.status == 0 else np.zeros(count)


def _function(problem: Problem, slopes: Mapping[int, Tensor]) -> tuple[Floats, float]:
    with torch.no_grad():
        found = backward(problem, slopes)
    return found.coefficient.double().numpy(force=True).ravel(), found.constant.item()


def _cut_value(problem: Problem, cuts: Cuts, index: int) -> Problem:
    """The problem whose row is what a cut keeps at most 0."""
    node = problem.parts[int(cuts.node[0, index])].node.inputs[0]
    shape = problem.parts[node].node.shape
    start = problem.sets.low.new_zeros(1, size(shape))
    start[0, int(cuts.element[0, index])] = cuts.sign[0, index]
    return replace(problem, start={node: start.view(1, *shape)})
