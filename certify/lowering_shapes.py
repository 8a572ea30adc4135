"""Views, slices and what else only moves values about, written as nodes."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from torch import Tensor

from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.errors import UnsupportedError


def unsqueeze(writer: Writer, x: Value, axis: int) -> Value:
    """aten::unsqueeze."""
    at = axis % (len(x.shape) + 1)
    return writer.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def squeeze(writer: Writer, x: Value, axes: int | Sequence[int] | None = None) -> Value:
    """aten::squeeze."""
    wanted = range(len(x.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    gone = {axis % len(x.shape) for axis in wanted}
    return writer.reshape(x, [n for i, n in enumerate(x.shape) if n != 1 or i not in gone])


def flatten(writer: Writer, x: Value, first: int, last: int) -> Value:
    """aten::flatten."""
    start, stop = first % len(x.shape), last % len(x.shape) + 1
    return writer.reshape(x, (*x.shape[:start], -1, *x.shape[stop:]))


def transpose(writer: Writer, x: Value, first: int = 0, second: int = -1) -> Value:
    """aten::transpose, and aten::t."""
    axes = list(range(len(x.shape)))
    if axes:
        axes[first], axes[second] = axes[second], axes[first]
    return writer.permute(x, axes)


def slice_(
    writer: Writer, x: Value, axis: int, start: int | None, stop: int | None, step: int
) -> Value:
    """aten::slice."""
    return writer.take(x, axis, np.arange(x.shape[axis])[start:stop:step])


def select(writer: Writer, x: Value, axis: int, at: int) -> Value:
    """aten::select."""
    axis %= len(x.shape)
    taken = writer.take(x, axis, [at % x.shape[axis]])
    return writer.reshape(taken, (*x.shape[:axis], *x.shape[axis + 1 :]))


def split(writer: Writer, x: Value, sizes: int | Sequence[int], axis: int) -> list[Value]:
    """aten::split and aten::split_with_sizes."""
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)]
    ends = accumulate(sizes)
    return [
        writer.take(x, axis, np.arange(end - size, end))
        for size, end in zip(sizes, ends, strict=True)
    ]


def chunk(writer: Writer, x: Value, chunks: int, axis: int) -> list[Value]:
    """aten::chunk."""
    return split(writer, x, -(-x.shape[axis] // chunks), axis)


def unbind(writer: Writer, x: Value, axis: int) -> list[Value]:
    """aten::unbind."""
    return [select(writer, x, axis, at) for at in range(x.shape[axis])]


def narrow(writer: Writer, x: Value, axis: int, start: int, length: int) -> Value:
    """aten::narrow."""
    return writer.take(x, axis, np.arange(start, start + length))


def index(writer: Writer, x: Value, indices: Sequence[Tensor | Value | None]) -> Value:
    """aten::index, with constants of one axis."""
    given = [(axis, at) for axis, at in enumerate(indices) if at is not None]
    axis, at = given[0]
    if len(given) > 1 or isinstance(at, Value) or at.ndim != 1:
        raise UnsupportedError(
            "certify: unsupported operator indexing by values of the image, or along several axes "
            "at once; index by constants, one axis after another"
        )
    return index_select(writer, x, axis, at)


def index_select(writer: Writer, x: Value, axis: int, at: Tensor) -> Value:
    """aten::index_select by a constant."""
    return writer.take(x, axis, np.arange(x.shape[axis])[at.numpy(force=True)])


def flip(writer: Writer, x: Value, axes: Sequence[int]) -> Value:
    """aten::flip."""
    for axis in axes:
        x = writer.take(x, axis, np.arange(x.shape[axis])[::-1])
    return x


def roll(writer: Writer, x: Value, shifts: Sequence[int], axes: Sequence[int]) -> Value:
    """aten::roll."""
    if not axes:
        flat = writer.reshape(x, (-1,))
        return writer.reshape(roll(writer, flat, shifts, [0]), x.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        x = writer.take(x, axis, np.roll(np.arange(x.shape[axis]), shift))
    return x


def repeat(writer: Writer, x: Value, times: Sequence[int]) -> Value:
    """aten::repeat."""
    x = writer.reshape(x, (*[1] * (len(times) - len(x.shape)), *x.shape))
    for axis, count in enumerate(times):
        x = writer.take(x, axis, np.tile(np.arange(x.shape[axis]), count))
    return x


def stack(writer: Writer, values: Sequence[Value], axis: int) -> Value:
    """aten::stack."""
    return writer.concat([unsqueeze(writer, x, axis) for x in values], axis)


def constant_pad(writer: Writer, x: Value, sides: Sequence[int], fill: float) -> Value:
    """aten::constant_pad_nd; torch counts the axes from the last."""
    first = len(x.shape) - len(sides) // 2
    before = [0] * first + list(sides[-2::-2])
    after = [0] * first + list(sides[::-2])
    padded = writer.pad(x, before, after)
    if fill == 0:
        return padded
    inside = np.ones(
        [n + min(a, 0) + min(b, 0) for n, a, b in zip(x.shape, before, after, strict=True)]
    )
    rim = np.pad(inside, [(max(a, 0), max(b, 0)) for a, b in zip(before, after, strict=True)])
    return writer.scale(padded, 1.0, fill * (1 - rim))


def edge_pad(writer: Writer, x: Value, sides: Sequence[int]) -> Value:
    """aten::replication_pad."""
    return _picked(writer, x, sides, "edge")


def mirror_pad(writer: Writer, x: Value, sides: Sequence[int]) -> Value:
    """aten::reflection_pad."""
    return _picked(writer, x, sides, "reflect")


def _picked(writer: Writer, x: Value, sides: Sequence[int], mode: str) -> Value:
    for i in range(len(sides) // 2):
        axis = len(x.shape) - 1 - i
        around = np.pad(np.arange(x.shape[axis]), (sides[2 * i], sides[2 * i + 1]), mode)  # type: ignore[call-overload]
        x = writer.take(x, axis, around)
    return x
