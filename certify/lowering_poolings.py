"""Means, sums and poolings, written as nodes."""

from collections.abc import Sequence

import numpy as np

from robustbench_med.certify.lowering_activations import maximum
from robustbench_med.certify.lowering_layers import depthwise
from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs.network import Floats, Node


def mean(
    writer: Writer,
    x: Value,
    axes: Sequence[int] | None = None,
    keep: bool = False,  # noqa: FBT001, FBT002
    _dtype: object = None,
) -> Value:
    """aten::mean."""
    wanted = _sorted(x, axes)
    count = int(np.prod([x.shape[axis] for axis in wanted]))
    return _summed(writer, x, wanted, 1 / count, keep=keep)


def total(
    writer: Writer,
    x: Value,
    axes: Sequence[int] | None = None,
    keep: bool = False,  # noqa: FBT001, FBT002
    _dtype: object = None,
) -> Value:
    """aten::sum."""
    return _summed(writer, x, _sorted(x, axes), 1.0, keep=keep)


def _sorted(x: Value, axes: Sequence[int] | None) -> list[int]:
    every = range(len(x.shape))
    return sorted({axis % len(x.shape) for axis in axes} if axes else every)


def _summed(writer: Writer, x: Value, axes: Sequence[int], factor: float, *, keep: bool) -> Value:
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    shape = kept if keep else [n for i, n in enumerate(x.shape) if i not in axes]
    # Axes side by side are one in memory: one product does them all.
    others = [i for i in range(len(x.shape)) if i not in axes]
    last = writer.permute(x, [*others, *axes])
    length = int(np.prod([x.shape[axis] for axis in axes]))
    flat = writer.reshape(last, (1, *(x.shape[i] for i in others if x.shape[i] != 1), length))
    done = writer.along(flat, -1, np.full((1, length), factor))
    return writer.reshape(done, shape)


def average_pool(  # noqa: PLR0913, PLR0917 (aten's own)
    writer: Writer,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,  # noqa: FBT001
    with_padding: bool,  # noqa: FBT001
    divisor: int | None = None,
) -> Value:
    """aten::avg_pool of 2 or 3 axes, by channel."""
    shape = x.shape
    axes = len(kernel) if len(kernel) > 1 else len(shape) - 2
    k, s, p = _each(kernel, axes), _each(stride or kernel, axes), _each(padding, axes)
    x = _with_cases_as_channels(writer, x, axes)
    sizes = x.shape[2:]
    outs = [_length(*each, 1, ceil=ceil) for each in zip(sizes, k, s, p, strict=True)]
    # Where rounding up, the last windows reach beyond the padding: zeros there, never counted.
    reach = [
        max((m - 1) * b + a - n - 2 * c, 0)
        for n, a, b, c, m in zip(sizes, k, s, p, outs, strict=True)
    ]
    counts = np.array(1.0)
    for n, a, b, c, m in zip(sizes, k, s, p, outs, strict=True):
        starts = np.arange(m) * b - c
        low = starts if with_padding else np.maximum(starts, 0)
        high = np.minimum(starts + a, n + (c if with_padding else 0))
        counts = np.multiply.outer(counts, high - low)
    if divisor:
        counts = np.full(outs, float(divisor))
    x = writer.pad(x, [0] * len(x.shape), [0, 0, *reach])
    same = bool((counts == counts.flat[0]).all())
    weight = np.full(k, 1 / counts.flat[0] if same else 1.0)
    pooled = depthwise(writer, x, weight, (s, p, [1] * axes))
    if list(pooled.shape[2:]) != outs:
        for axis, m in enumerate(outs):
            pooled = writer.take(pooled, axis + 2, np.arange(m))
    if not same:
        pooled = writer.scale(pooled, 1 / counts)
    return writer.reshape(pooled, (*shape[: len(shape) - axes], *outs))


def adaptive_average_pool(writer: Writer, x: Value, sizes: Sequence[int]) -> Value:
    """aten::_adaptive_avg_pool of 2 or 3 axes; windows overlap where sizes do not divide."""
    grid = x.shape[-len(sizes) :]
    if all(n % m == 0 for n, m in zip(grid, sizes, strict=True)):
        kernel = [n // m for n, m in zip(grid, sizes, strict=True)]
        return average_pool(writer, x, kernel, kernel, [0], False, True)  # noqa: FBT003
    for i, (n, m) in enumerate(zip(grid, sizes, strict=True)):
        matrix = np.zeros((m, n))
        for row in range(m):
            start, stop = row * n // m, -(-(row + 1) * n // m)
            matrix[row, start:stop] = 1 / (stop - start)
        x = writer.along(x, len(x.shape) - len(sizes) + i, matrix)
    return x


def max_pool(  # noqa: PLR0913, PLR0917 (aten's own)
    writer: Writer,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,  # noqa: FBT001
) -> tuple[Value, None]:
    """aten::max_pool of 2 or 3 axes as ReLUs, an axis at a time: fewer ReLUs, the same maximum."""
    shape = x.shape
    axes = len(kernel) if len(kernel) > 1 else len(shape) - 2
    numbers = (_each(each, axes) for each in (kernel, stride or kernel, padding, dilation))
    x = _with_cases_as_channels(writer, x, axes)
    for axis, (k, s, p, d) in enumerate(zip(*numbers, strict=True)):
        n = x.shape[axis + 2]
        m = _length(n, k, s, p, d, ceil=ceil)
        after = max((m - 1) * s + d * (k - 1) + 1 - n - p, 0)
        x, p = _around(writer, x, axis + 2, (p, after), d)  # noqa: PLW2901
        x = _max_along(writer, x, axis, (k, s, p, d))
        x = writer.take(x, axis + 2, np.arange(m))
    return writer.reshape(x, (*shape[: len(shape) - axes], *x.shape[2:])), None


def _around(
    writer: Writer, x: Value, axis: int, sides: tuple[int, int], dilation: int
) -> tuple[Value, int]:
    """Make up for padding; returns the zeros that a convolution may still put on each side."""
    before, after = sides
    if not (before or after):
        return x, 0
    if after <= before and at_least_zero(writer.nodes, x.position):
        return x, before
    if dilation > 1:
        raise UnsupportedError(
            "certify: unsupported operator max_pool with padding and dilation of values that may "
            "be negative; put a ReLU before it"
        )
    # Every window holds the edge that stands in for what lies beyond it.
    n = x.shape[axis]
    return writer.take(x, axis, np.clip(np.arange(-before, n + after), 0, n - 1)), 0


def _max_along(writer: Writer, x: Value, axis: int, numbers: tuple[int, int, int, int]) -> Value:
    kernel, *others = numbers
    axes = len(x.shape) - 2
    layout = tuple(
        [number if i == axis else neutral for i in range(axes)]
        for number, neutral in zip(others, (1, 0, 1), strict=True)
    )

    def picked(weight: Floats) -> Value:
        along = weight.reshape([kernel if i == axis else 1 for i in range(axes)])
        return depthwise(writer, x, along, layout)  # type: ignore[arg-type]

    if kernel == 1 and others == [1, 0, 1]:
        return x
    each = np.eye(kernel)
    found = []
    for first in range(0, kernel - 1, 2):
        over = writer.relu(picked(each[first] - each[first + 1]))
        found.append(writer.add(picked(each[first + 1]), over))
    if kernel % 2:
        found.append(picked(each[-1]))
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=False)
        rest = found[len(found) // 2 * 2 :]
        found = [*(maximum(writer, a, b) for a, b in pairs), *rest]
    return found[0]


def at_least_zero(nodes: Sequence[Node], position: int) -> bool:
    """Whether a value is known to be nowhere below 0: ReLUs added up and moved about."""
    node = nodes[position]
    if node.kind == "relu":
        return True
    constants = [array for name, array in node.arrays.items() if name != "index"]
    return (
        node.kind != "input"
        and all(bool((array >= 0).all()) for array in constants)
        and all(at_least_zero(nodes, i) for i in node.inputs)
    )


def _with_cases_as_channels(writer: Writer, x: Value, axes: int) -> Value:
    return writer.reshape(x, (1, -1, *x.shape[len(x.shape) - axes :]))


def _each(numbers: Sequence[int], axes: int) -> list[int]:
    return [int(n) for n in (numbers if len(numbers) == axes else list(numbers) * axes)]


def _length(n: int, k: int, s: int, p: int, d: int, *, ceil: bool) -> int:
    free = n + 2 * p - d * (k - 1) - 1
    m = (-(-free // s) if ceil else free // s) + 1
    # A window must begin within the image or the padding before it.
    return m - 1 if ceil and (m - 1) * s >= n + p else m
