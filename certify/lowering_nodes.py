"""Writing nodes of a `proofs.Network` down, with values addressed as torch sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs.network import Floats, Kind, Node

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A value that changes with the image.

    Attributes:
        position: Of the node that has it.
        shape: As torch sees it, with the batch axis; the node leaves a first axis of 1 out.
    """

    position: int
    shape: Shape


def bare(shape: Shape) -> Shape:
    """A shape without its first axis, if that is a batch of one; never empty."""
    return (shape[1:] if shape[:1] == (1,) else shape) or (1,)


class Writer:
    """Writes nodes one after another; axes and shapes are torch's, batch axis included."""

    def __init__(self, shape: Shape) -> None:
        self.nodes = [Node("input", (), bare(shape))]
        self.start = Value(0, shape)

    def put(
        self,
        kind: Kind,
        inputs: Sequence[int],
        seen: Shape,
        shape: Shape,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        **settings: Sequence[int],
    ) -> Value:
        """Write a node of the shape `seen`, whose value torch sees in `shape`."""
        given = {name: tuple(int(n) for n in numbers) for name, numbers in settings.items()}
        self.nodes.append(Node(kind, tuple(inputs), seen, arrays or {}, given))
        if seen != bare(shape):
            self.nodes.append(Node("reshape", (len(self.nodes) - 1,), bare(shape)))
        return Value(len(self.nodes) - 1, shape)

    def seen(self, x: Value, *, whole: bool = False) -> tuple[int, int]:
        """Where a value stands, and how many of torch's axes its node leaves out, 0 or 1."""
        if len(bare(x.shape)) == len(x.shape):
            return x.position, 0
        if not whole:
            return x.position, 1
        self.nodes.append(Node("reshape", (x.position,), x.shape))
        return len(self.nodes) - 1, 0

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Give a value another shape; -1 as in torch."""
        known = -int(np.prod(shape, dtype=np.int64))
        wanted = tuple(_size(x.shape) // known if n == -1 else int(n) for n in shape)
        if bare(wanted) == bare(x.shape):
            return Value(x.position, wanted)
        return self.put("reshape", (x.position,), bare(wanted), wanted)

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        """Order the axes anew."""
        order = [axis % len(x.shape) for axis in axes]
        if order == sorted(order):
            return x
        position, off = self.seen(x, whole=order[0] != 0)
        shape = tuple(x.shape[axis] for axis in order)
        return self.put(
            "permute", (position,), shape[off:], shape, axes=[axis - off for axis in order[off:]]
        )

    def take(self, x: Value, axis: int, index: ArrayLike) -> Value:
        """Pick along an axis; the axis stays."""
        axis, places = axis % len(x.shape), np.asarray(index, dtype=np.int64)
        if np.array_equal(places, np.arange(x.shape[axis])):
            return x
        position, off = self.seen(x, whole=axis == 0)
        shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
        return self.put(
            "take", (position,), shape[off:], shape, {"index": places}, axis=[axis - off]
        )

    def along(self, x: Value, axis: int, weight: Floats) -> Value:
        """Multiply a matrix `(m, n)` along an axis."""
        axis %= len(x.shape)
        position, off = self.seen(x, whole=axis == 0)
        shape = (*x.shape[:axis], len(weight), *x.shape[axis + 1 :])
        return self.put(
            "along", (position,), shape[off:], shape, {"weight": exact(weight)}, axis=[axis - off]
        )

    def pad(self, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
        """Put zeros around, so many at each end of each axis; negative numbers crop."""
        for axis, (first, last) in enumerate(zip(before, after, strict=True)):
            n = x.shape[axis]
            x = self.take(x, axis, np.arange(max(-first, 0), n - max(-last, 0)))
        low, high = ([max(n, 0) for n in ends] for ends in (before, after))
        if not (any(low) or any(high)):
            return x
        position, off = self.seen(x, whole=bool(low[0] or high[0]))
        shape = tuple(sum(each) for each in zip(low, x.shape, high, strict=True))
        return self.put("pad", (position,), shape[off:], shape, before=low[off:], after=high[off:])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Put values one after another along an axis."""
        first = values[0].shape
        axis %= len(first)
        off = 0
        positions = []
        for x in values:
            position, off = self.seen(x, whole=axis == 0)
            positions.append(position)
        length = sum(x.shape[axis] for x in values)
        shape = (*first[:axis], length, *first[axis + 1 :])
        return self.put("concat", positions, shape[off:], shape, axis=[axis - off])

    def broadcast(self, x: Value, shape: Sequence[int]) -> Value:
        """Repeat along axes of 1, as torch's expand; -1 keeps an axis."""
        x = self.reshape(x, (*[1] * (len(shape) - len(x.shape)), *x.shape))
        for axis, (n, wanted) in enumerate(zip(x.shape, shape, strict=True)):
            if wanted not in (n, -1):
                x = self.take(x, axis, np.zeros(wanted, dtype=np.int64))
        return x

    def scale(self, x: Value, factor: ArrayLike = 1.0, shift: ArrayLike = 0.0) -> Value:
        """Multiply with one constant and add another, each broadcast as in torch."""
        constants = [exact(factor), exact(shift)]
        x = self.broadcast(x, np.broadcast_shapes(x.shape, *(each.shape for each in constants)))
        if len(bare(x.shape)) < len(x.shape):
            constants = [c[0] if c.ndim == len(x.shape) else c for c in constants]
        arrays = dict(zip(("factor", "shift"), constants, strict=True))
        return self.put("scale", (x.position,), bare(x.shape), x.shape, arrays)

    def add(self, *values: Value) -> Value:
        """Add values up, broadcast as in torch."""
        shape = np.broadcast_shapes(*(x.shape for x in values))
        same = [self.broadcast(x, shape).position for x in values]
        if len(same) == 2 and same[0] == same[1]:
            return self.scale(Value(same[0], shape), 2.0)
        return self.put("sum", same, bare(shape), shape)

    def relu(self, x: Value) -> Value:
        """The larger of a value and 0."""
        return self.put("relu", (x.position,), bare(x.shape), x.shape)


def exact(array: ArrayLike) -> Floats:
    """A constant in float64.

    Raises:
        UnsupportedError: If it is complex or not finite.
    """
    found = np.asarray(array)
    if np.iscomplexobj(found) or not np.isfinite(found).all():
        raise UnsupportedError(
            "certify: unsupported network: a weight or constant is complex or not finite"
        )
    return np.array(found, dtype=np.float64)


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))
