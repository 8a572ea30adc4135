"""A network that also gives what an image's limits are drawn from: sums, and what is not linear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Floats, Kind, Network, Node, size
from robustbench_med.proofs.proof import InputSet

BUDGET = 2**28
"""Bytes that the matrix of the linear part may take; without one limits are drawn by voxel."""
_TOGETHER = 2**26


@dataclass(frozen=True)
class Linear:
    """What an image does nearly: `middle + matrix @ (x - start)`, x the inputs that may change.

    Any matrix would do: what is not linear is bounded apart, and is small if the matrix is good.

    Attributes:
        matrix: `(m, f)`.
        middle: `(m,)`, near the image at `start`.
        free: `(f,)`, which flat inputs may change.
        start: `(f,)`, where they begin.
        reach: `(f,)`, how far each may move from there, rounded up.
        radius: How far they may move together, in l2; infinite for a box.
    """

    matrix: Floats
    middle: Floats
    free: NDArray[np.int64]
    start: Floats
    reach: Floats
    radius: float


def linear_part(network: Network, inputs: InputSet, budget: int = BUDGET) -> Linear | None:
    """Fit an image's changes with each input, one by one, over the set; None if it takes too much.

    Args:
        network: Written out.
        inputs: The set.
        budget: Bytes that the matrix may take.
    """
    low, high = inputs.low.ravel(), inputs.high.ravel()
    free = np.flatnonzero(high > low)
    outputs = size(network.nodes[-1].shape)
    if not len(free) or 8 * outputs * len(free) > budget:
        return None
    within = low / 2 + high / 2 if inputs.centre is None else inputs.centre.ravel()
    start = np.where(high > low, np.clip(within, low, high), low)
    reach = np.nextafter(np.maximum(high - start, start - low), np.inf)
    widest = max(size(node.shape) for node in network.nodes)
    step = max(1, _TOGETHER // (16 * widest))
    columns = [
        _slopes(network, start, free[at : at + step], reach)
        for at in range(0, len(free), step)
    ]  # fmt: skip
    middle = _images(network, start[None])[0]
    return Linear(
        np.ascontiguousarray(np.concatenate(columns).T), middle, free, start[free], reach[free],
        float(inputs.radius) if inputs.centre is not None else np.inf,
    )  # fmt: skip


def extended(network: Network, linear: Linear | None, sums: Floats) -> Network:
    """Give the flat image, then what of it is not linear, then sums of it.

    Args:
        network: Written out.
        linear: Of its image, `m` values; None leaves out what is not linear.
        sums: `(k, m)`, what each sum counts a value for; `k` may be 0.

    Returns:
        A network of `m + m + k` outputs, or `m + k`.
    """
    nodes = list(network.nodes)

    def add(kind: Kind, inputs: tuple[int, ...], shape: tuple[int, ...], **given: object) -> int:
        arrays = {name: each for name, each in given.items() if isinstance(each, np.ndarray)}
        settings = {name: each for name, each in given.items() if isinstance(each, tuple)}
        nodes.append(Node(kind, inputs, shape, arrays, settings))
        return len(nodes) - 1

    count, whole = size(nodes[-1].shape), size(nodes[0].shape)
    image = add("reshape", (len(nodes) - 1,), (count,))
    parts = [image]
    if linear is not None:
        free = (len(linear.free),)
        flat = add("reshape", (0,), (whole,))
        taken = add("take", (flat,), free, index=linear.free, axis=(0,))
        moved = add("scale", (taken,), free, factor=np.ones(free), shift=-linear.start)
        undone = add("dense", (moved,), (count,), weight=-linear.matrix, bias=-linear.middle)
        parts.append(add("sum", (image, undone), (count,)))
    if len(sums):
        parts.append(add("dense", (image,), (len(sums),), weight=sums, bias=np.zeros(len(sums))))
    if len(parts) > 1:
        add("concat", tuple(parts), (sum(nodes[part].shape[0] for part in parts),), axis=(0,))
    return Network(tuple(nodes))


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
