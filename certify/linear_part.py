"""Fit what an image does nearly linearly over a set of a network's inputs."""

import numpy as np
from numpy.typing import NDArray

from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.image_outputs import Linear, linear_over, moves
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import InputSet

BUDGET = 2**28
"""Bytes that the matrix of the linear part may take; without one limits are drawn by voxel."""
_TOGETHER = 2**26


def linear_part(network: Network, inputs: InputSet, budget: int = BUDGET) -> Linear | None:
    """Fit an image's changes with each input, one by one, over the set; None if it takes too much.

    Args:
        network: Written out.
        inputs: The set.
        budget: Bytes that the matrix may take.
    """
    free, start, reach = moves(inputs)
    outputs = size(network.nodes[-1].shape)
    if not len(free) or 8 * outputs * len(free) > budget:
        return None
    widest = max(size(node.shape) for node in network.nodes)
    step = max(1, _TOGETHER // (16 * widest))
    columns = [
        _slopes(network, start, free[at : at + step], reach)
        for at in range(0, len(free), step)
    ]  # fmt: skip
    middle = _images(network, start[None])[0]
    matrix = np.ascontiguousarray(np.concatenate(columns).T)
    return linear_over(inputs, outputs, matrix, middle)


def _slopes(
    network: Network, start: Floats, some: NDArray[np.int64], reach: Floats
) -> Floats:  # fmt: skip
    steps = np.zeros((len(some), len(start)))
    steps[np.arange(len(some)), some] = reach[some]
    ahead, behind = _images(network, start + steps), _images(network, start - steps)
    return (ahead - behind) / (2 * reach[some][:, None])


def _images(network: Network, points: Floats) -> Floats:
    shaped = points.reshape(len(points), *network.nodes[0].shape)
    return values_of_cases(network, shaped)[-1].reshape(len(points), -1)
