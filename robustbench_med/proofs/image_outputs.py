"""A network that also gives what an image's limits are drawn from: sums, and what is not linear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.network import Floats, Kind, Network, Node, size
from robustbench_med.proofs.proof import InputSet


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


def moves(inputs: InputSet) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Say which inputs may change over a set, where all begin, and how far each may move.

    Args:
        inputs: The set; `n` flat inputs.

    Returns:
        `(f,)`, which may change; `(n,)`, the ball's centre, or the middle of the box; `(n,)`, how
        far each may be from there, rounded up.
    """
    low, high = inputs.low.ravel(), inputs.high.ravel()
    within = low / 2 + high / 2 if inputs.centre is None else inputs.centre.ravel()
    start = np.where(high > low, np.clip(within, low, high), low)
    reach = np.nextafter(np.maximum(high - start, start - low), np.inf)
    return np.flatnonzero(high > low), start, reach


def linear_over(inputs: InputSet, outputs: int, matrix: Floats, middle: Floats) -> Linear:
    """Make a linear part of its numbers; how far its inputs move follows from the set alone.

    Args:
        inputs: The set, whose centre, if there is one, lies within its corners.
        outputs: Number `m` of the image's values.
        matrix: `(m, f)`.
        middle: `(m,)`.

    Raises:
        IntegrityError: If they are not finite, or not for the inputs that may change.
    """
    free, start, reach = moves(inputs)
    wanted = ("matrix", matrix, (outputs, len(free))), ("middle", middle, (outputs,))
    for name, array, shape in wanted:
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise IntegrityError(
                f"a linear part's {name} must be finite and {shape} float64, got {array.dtype} "
                f"{array.shape}"
            )
    radius = float(inputs.radius) if inputs.centre is not None else np.inf
    return Linear(matrix, middle, free, start[free], reach[free], radius)


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
