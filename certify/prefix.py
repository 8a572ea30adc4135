"""Affine nodes in front of a written-out network: its input becomes a vector of parameters."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustbench_med.errors import InputError
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network import Floats, Network, Node, size

Bounds = tuple[float, float]
NO_BOUNDS: Bounds = (-np.inf, np.inf)


def with_affine(
    network: Network, origin: Floats, directions: Floats, bounds: Bounds = NO_BOUNDS
) -> Network:
    """Let a network see `origin + sum_k theta_k directions_k`, clipped, as a function of theta.

    Args:
        network: Of an input `(c, *s)`.
        origin: `(c, *s)`, what it sees where all parameters are 0.
        directions: `(k, c, *s)`, how its input moves with each parameter.
        bounds: What the input is clipped to, as two ReLUs; an infinite side is not clipped.

    Returns:
        The network of an input `(k,)`.

    Raises:
        InputError: If shapes do not fit, a number is not finite, or the bounds are no interval.
    """
    shape = network.nodes[0].shape
    _require(shape, origin, directions, bounds)
    flat = (size(shape),)
    arrays = {
        "weight": np.ascontiguousarray(directions.reshape(len(directions), -1).T, np.float64),
        "bias": np.ascontiguousarray(origin, np.float64).reshape(flat).copy(),
    }
    nodes = [Node("input", (), (len(directions),)), Node("dense", (0,), flat, arrays)]
    for node in _clip(flat, bounds):
        nodes.append(replace(node, inputs=(len(nodes) - 1,)))
    nodes.append(Node("reshape", (len(nodes) - 1,), tuple(shape)))
    ahead = len(nodes) - 1
    behind = (
        replace(node, inputs=tuple(i + ahead for i in node.inputs)) for node in network.nodes[1:]
    )
    return Network((*nodes, *behind))


def seen(network: Network, whole: Network, theta: Floats) -> Floats:
    """Compute what the network sees, `(c, *s)`, at parameters `(k,)` of what stands before it."""
    return values(whole, theta)[len(whole.nodes) - len(network.nodes)]


def _clip(shape: tuple[int, ...], bounds: Bounds) -> list[Node]:
    """Write max(x, low) as low + relu(x - low), and min(x, high) as high - relu(high - x)."""
    low, high = bounds
    nodes: list[Node] = []
    if np.isfinite(low):
        nodes += [_scale(shape, 1, -low), Node("relu", (), shape), _scale(shape, 1, low)]
    if np.isfinite(high):
        nodes += [_scale(shape, -1, high), Node("relu", (), shape), _scale(shape, -1, high)]
    return nodes


def _scale(shape: tuple[int, ...], factor: float, shift: float) -> Node:
    ones = (1,) * len(shape)
    arrays = {"factor": np.full(ones, float(factor)), "shift": np.full(ones, float(shift))}
    return Node("scale", (), shape, arrays)


def _require(shape: Sequence[int], origin: Floats, directions: Floats, bounds: Bounds) -> None:
    if origin.shape != tuple(shape):
        raise InputError(f"prefix: the network's input is {tuple(shape)}, got {origin.shape}")
    if directions.ndim != len(shape) + 1 or directions.shape[1:] != tuple(shape):
        raise InputError(
            f"prefix: directions must be (parameters, *{tuple(shape)}), got {directions.shape}"
        )
    if not len(directions):
        raise InputError("prefix: needs at least one parameter, got none")
    if not (np.isfinite(origin).all() and np.isfinite(directions).all()):
        raise InputError("prefix: image and directions must be finite numbers")
    if not bounds[0] < bounds[1]:
        raise InputError(f"prefix: bounds must be (low, high) with low < high, got {bounds}")
