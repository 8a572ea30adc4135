"""What a network written out computes, in float64; NumPy only."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from robustbench_med.proofs.network import Floats, Kind, Network, Node


def values(network: Network, image: Floats) -> list[Floats]:
    """Compute the value of every node for one input.

    Args:
        network: The network.
        image: Of its input's shape, without batch axis.

    Returns:
        One array a node, of the node's shape.
    """
    return [each[0] for each in values_of_cases(network, np.asarray(image, np.float64)[None])]


def values_of_cases(network: Network, images: Floats) -> list[Floats]:
    """Compute the value of every node for several inputs, `(b, *shape)` each."""
    found: list[Floats] = [np.asarray(images, np.float64)]
    for node in network.nodes[1:]:
        found.append(forward(node, [found[i] for i in node.inputs]))
    return found


def forward(node: Node, inputs: Sequence[Floats]) -> Floats:
    """Compute one node's value from those of its inputs.

    Args:
        node: Any but an input.
        inputs: `(b, *shape)` of each of its inputs.

    Returns:
        `(b, *node.shape)`.
    """
    return np.asarray(_FORWARD[node.kind](node, inputs))


def along(weight: Floats, x: Floats, axis: int) -> Floats:
    """Multiply `(m, n)` onto one axis of `(b, *shape)`; the batch axis is not counted."""
    return np.moveaxis(np.tensordot(x, weight, axes=(axis + 1, 1)), -1, axis + 1)


def padded(x: Floats, before: Sequence[int], after: Sequence[int]) -> Floats:
    """Put zeros around `(b, *shape)`, so many before and after along each axis but the first."""
    return np.pad(x, [(0, 0), *zip(before, after, strict=True)])


def convolved(node: Node, x: Floats) -> Floats:
    """Compute a convolution or a transposed one, bias included, of `(b, i, *s)`."""
    found = _correlated(node, x) if node.kind == "conv" else _scattered(node, x)
    return np.asarray(found + node.arrays["bias"].reshape(-1, *(1,) * (x.ndim - 2)))


def offsets(node: Node) -> Iterator[tuple[tuple[slice | int, ...], tuple[int, ...]]]:
    """List where each kernel position lies in the weight, and how far from the first, in pixels."""
    kernel = node.arrays["weight"].shape[2:]
    for place in itertools.product(*map(range, kernel)):
        steps = zip(place, node.settings["dilation"], strict=True)
        yield (slice(None), slice(None), *place), tuple(at * dilation for at, dilation in steps)


def _correlated(node: Node, x: Floats) -> Floats:
    padding, stride = (0, *node.settings["padding"]), node.settings["stride"]
    weight, groups = node.arrays["weight"], node.settings["groups"][0]
    around = padded(x, padding, padding)
    out: Floats = np.zeros((len(x), *node.shape))
    for place, start in offsets(node):
        matrices = weight[place].reshape(groups, -1, weight.shape[1])
        out += _channels(matrices, around[_every(start, stride, node.shape[1:])])
    return out


def _scattered(node: Node, x: Floats) -> Floats:
    padding, stride = node.settings["padding"], node.settings["stride"]
    weight, groups = node.arrays["weight"], node.settings["groups"][0]
    whole = [n + 2 * p for n, p in zip(node.shape[1:], padding, strict=True)]
    around: Floats = np.zeros((len(x), node.shape[0], *whole))
    for place, start in offsets(node):
        matrices = weight[place].reshape(groups, -1, weight.shape[1]).swapaxes(1, 2)
        around[_every(start, stride, x.shape[2:])] += _channels(matrices, x)
    inner = _every(padding, [1] * len(stride), node.shape[1:])
    return np.asarray(around[inner])


def _channels(matrices: Floats, x: Floats) -> Floats:
    """Multiply each group of channels of `(b, i, *s)` by its matrix, `(groups, o, i)`."""
    groups, _, wide = matrices.shape
    products = matrices @ x.reshape(len(x), groups, wide, -1)
    return np.asarray(products.reshape(len(x), -1, *x.shape[2:]))


def _every(start: Sequence[int], stride: Sequence[int], count: Sequence[int]) -> tuple[slice, ...]:
    triples = zip(start, stride, count, strict=True)
    after = (slice(first, first + step * (n - 1) + 1, step) for first, step, n in triples)
    return (slice(None), slice(None), *after)


_Rule = Callable[[Node, Sequence[Floats]], Floats]
_FORWARD: Mapping[Kind, _Rule] = MappingProxyType(
    {
        "conv": lambda node, x: convolved(node, x[0]),
        "conv_transpose": lambda node, x: convolved(node, x[0]),
        "dense": lambda node, x: x[0] @ node.arrays["weight"].T + node.arrays["bias"],
        "along": lambda node, x: along(node.arrays["weight"], x[0], node.settings["axis"][0]),
        "scale": lambda node, x: node.arrays["factor"] * x[0] + node.arrays["shift"],
        "sum": lambda _, x: np.add.reduce(x),
        "concat": lambda node, x: np.concatenate(x, axis=node.settings["axis"][0] + 1),
        "reshape": lambda node, x: x[0].reshape(len(x[0]), *node.shape),
        "permute": lambda node, x: x[0].transpose(0, *(a + 1 for a in node.settings["axes"])),
        "take": lambda node, x: x[0].take(node.arrays["index"], node.settings["axis"][0] + 1),
        "pad": lambda node, x: padded(x[0], node.settings["before"], node.settings["after"]),
        "relu": lambda _, x: np.maximum(x[0], 0),
    }
)
