"""A network written out as affine operations and ReLU, so that anybody can compute it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal[
    "input", "conv", "conv_transpose", "dense", "along", "scale", "sum", "concat", "reshape",
    "permute", "take", "pad", "relu",
]  # fmt: skip
LOCAL: tuple[Kind, ...] = ("input", "conv", "conv_transpose", "scale", "sum", "concat", "relu")


@dataclass(frozen=True)
class Node:
    """One operation; its value has no batch axis. `x` is the value of its input.

    | kind | arrays | settings | value |
    |---|---|---|---|
    | input | | | what the network is given |
    | conv | weight (o, i / groups, *k), bias (o,) | stride, padding, dilation: one an axis; \
groups: one | cross-correlation over the axes after the first, zeros around |
    | conv_transpose | weight (i, o / groups, *k), bias (o,) | the same and output_padding | \
the transpose of such a convolution, plus bias |
    | dense | weight (m, n), bias (m,) | | weight @ x + bias, x (n,) |
    | along | weight (m, n) | axis: one number | weight times x along that axis |
    | scale | factor, shift, broadcastable to x | | factor * x + shift |
    | sum | | | of all inputs, of one shape |
    | concat | | axis: one number | of all inputs |
    | reshape | | | x in row-major order, as the node's shape |
    | permute | | axes: as of numpy.transpose | |
    | take | index, whole numbers, repeats allowed | axis: one number | x[index] along that axis |
    | pad | | before, after: one number an axis of x, at least 0 | zeros around x |
    | relu | | | max(x, 0) |

    Attributes:
        kind: One of the table above.
        inputs: Positions of earlier nodes in the network.
        shape: Of its value.
        arrays: Float64, but `index`: int64.
        settings: Whole numbers by name, always as a tuple.
    """

    kind: Kind
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Nodes, each after its inputs: the first, and no other, is the input; the last the output.

    What it computes is meant in real numbers; its arrays are taken as they are.
    """

    nodes: tuple[Node, ...]

    @property
    def relus(self) -> tuple[int, ...]:
        """Positions of its ReLU nodes, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if node.kind == "relu")

    @property
    def digest(self) -> str:
        """SHA-256 of every node: kind, inputs, shape, settings and arrays."""
        digest = hashlib.sha256()
        for node in self.nodes:
            settings = sorted((name, tuple(values)) for name, values in node.settings.items())
            digest.update(repr((node.kind, node.inputs, node.shape, settings)).encode())
            for name, array in sorted(node.arrays.items()):
                digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def size(shape: Sequence[int]) -> int:
    """Number of elements."""
    return int(np.prod(shape, dtype=np.int64))
