"""Coefficients of an affine node's value, turned into coefficients of its inputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from robustbench_med.proofs.evaluation import along, offsets
from robustbench_med.proofs.network import Floats, Node, size

Tap = tuple[Floats, tuple[int, ...]]
CACHE = 2**19


def transposed(  # noqa: C901, PLR0911, PLR0912
    node: Node, coefficients: Floats, shapes: Sequence[tuple[int, ...]]
) -> list[Floats]:
    """Multiply rows with the matrix of an affine node; its bias or shift is left out.

    Args:
        node: An affine node: neither an input nor a ReLU.
        coefficients: `(r, *node.shape)`.
        shapes: Of each of the node's inputs.

    Returns:
        `(r, *shape)` for each of its inputs.
    """
    arrays, settings = node.arrays, node.settings
    match node.kind:
        case "conv" | "conv_transpose":
            return [_convolved(node, coefficients, shapes[0])]
        case "dense":
            return [coefficients @ arrays["weight"]]
        case "along":
            return [along(arrays["weight"].T, coefficients, settings["axis"][0])]
        case "scale":
            return [coefficients * arrays["factor"]]
        case "sum":
            return [coefficients] * len(shapes)
        case "concat":
            axis = settings["axis"][0]
            ends = np.cumsum([shape[axis] for shape in shapes])[:-1]
            return np.split(coefficients, ends, axis=axis + 1)
        case "reshape":
            return [coefficients.reshape(len(coefficients), *shapes[0])]
        case "permute":
            order = np.argsort(settings["axes"])
            return [coefficients.transpose(0, *(order + 1))]
        case "take":
            return [_given_back(node, coefficients, shapes[0])]
        case "pad":
            return [coefficients[_every(settings["before"], (1,) * len(node.shape), shapes[0])]]
    raise ValueError(f"{node.kind} is not affine")


def fan_out(node: Node) -> int:
    """Count at most how many products one coefficient of an input sums up; 0: none, it is exact."""
    terms = 0
    match node.kind:
        case "conv" | "conv_transpose":
            weight, groups = node.arrays["weight"].shape, node.settings["groups"][0]
            outputs = weight[0] // groups if node.kind == "conv" else weight[1]
            terms = int(outputs * size(weight[2:]))
        case "dense" | "along":
            terms = int(node.arrays["weight"].shape[0])
        case "take":
            repeats = int(np.bincount(node.arrays["index"]).max(initial=0))
            terms = repeats if repeats > 1 else 0
        case "scale":
            terms = 1
    return terms


def shift(node: Node) -> Floats | None:
    """Find what an affine node adds: `(size of its shape,)`; None where nothing."""
    if node.kind == "dense":
        added = node.arrays["bias"]
    elif node.kind in ("conv", "conv_transpose"):
        added = node.arrays["bias"].reshape(-1, *(1,) * (len(node.shape) - 1))
    elif node.kind == "scale":
        added = node.arrays["shift"]
    else:
        return None
    return np.broadcast_to(added, node.shape).ravel() if np.any(added) else None


def _given_back(node: Node, coefficients: Floats, shape: tuple[int, ...]) -> Floats:
    axis, index = node.settings["axis"][0], node.arrays["index"]
    result = np.zeros((*shape, len(coefficients)))
    target = np.moveaxis(result, axis, 0)
    given = np.moveaxis(np.moveaxis(coefficients, axis + 1, 0), 1, -1)
    if fan_out(node):
        np.add.at(target, index, given)
    else:
        target[index] = given
    return np.ascontiguousarray(np.moveaxis(result, -1, 0))


def _convolved(node: Node, rows: Floats, shape: tuple[int, ...]) -> Floats:
    taps, padding, stride = list(_taps(node)), node.settings["padding"], node.settings["stride"]
    if node.kind == "conv_transpose":
        whole = [n + 2 * p for n, p in zip(node.shape[1:], padding, strict=True)]
        return _gathered(rows, taps, padding, whole, (stride, shape))
    far = taps[-1][1]  # the last kernel position lies furthest from the first
    before = [f - p for f, p in zip(far, padding, strict=True)]
    if set(stride) != {1} or min(before) < 0:
        return _scattered(node, rows, taps, shape)
    # With a stride of 1 the transpose is a correlation with the kernel turned around.
    whole = [n + f for n, f in zip(shape[1:], far, strict=True)]
    turned = [
        (tap.transpose(0, 2, 1), tuple(f - s for f, s in zip(far, start, strict=True)))
        for tap, start in taps
    ]
    return _gathered(rows, turned, before, whole, (stride, shape))


def _gathered(
    rows: Floats,
    taps: Sequence[Tap],
    before: Sequence[int],
    whole: Sequence[int],
    form: tuple[Sequence[int], tuple[int, ...]],
) -> Floats:
    """Correlate rows, put `before` into zeros of the size `whole`, to a stride and a shape."""
    stride, shape = form
    groups, inside, outside = taps[0][0].shape
    matrix = np.concatenate([tap for tap, _ in taps], axis=2)
    result = np.empty((len(rows), *shape))
    blocks = list(_blocks(len(rows), len(taps) * groups * outside * size(shape[1:])))
    step = blocks[0].stop if blocks else 0
    # Both are kept from block to block: memory that is new each time costs more than the sums.
    around = np.zeros((step, groups, outside, *whole))
    columns = np.empty((step, groups, len(taps), outside, *shape[1:]))
    for block in blocks:
        part = rows[block]
        count = len(part)
        inner = _every(before, (1,) * len(before), part.shape[2:])
        around[:count][inner] = part.reshape(count, groups, outside, *part.shape[2:])
        for place, (_, start) in enumerate(taps):
            columns[:count, :, place] = around[:count][_every(start, stride, shape[1:])]
        seen = columns[:count].reshape(count, groups, len(taps) * outside, -1)
        result[block] = (matrix @ seen).reshape(count, groups * inside, *shape[1:])
    return result


def _blocks(rows: int, width: int) -> Iterator[slice]:
    # Each kernel position goes over all of a block again: it should stay in the cache.
    step = max(1, CACHE // (8 * width))
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _scattered(node: Node, rows: Floats, taps: Sequence[Tap], shape: tuple[int, ...]) -> Floats:
    padding, stride = node.settings["padding"], node.settings["stride"]
    groups, _, inside = taps[0][0].shape
    whole = [n + 2 * p for n, p in zip(shape[1:], padding, strict=True)]
    result = np.empty((len(rows), *shape))
    for block in _blocks(len(rows), size(shape[:1]) * size(whole)):
        part = rows[block]
        around = np.zeros((len(part), *shape[:1], *whole))
        flat = part.reshape(len(part), groups, -1, size(node.shape[1:]))
        for tap, start in taps:
            back = (np.ascontiguousarray(tap.transpose(0, 2, 1)) @ flat).reshape(
                len(part), groups * inside, *node.shape[1:]
            )
            around[_every(start, stride, node.shape[1:])] += back
        result[block] = around[_every(padding, (1,) * len(padding), shape[1:])]
    return result


def _taps(node: Node) -> Iterator[Tap]:
    """List the matrix of each group at each kernel position, and how far that is from the first."""
    weight = node.arrays["weight"]
    kernel = weight.reshape(node.settings["groups"][0], -1, *weight.shape[1:])
    for place, start in offsets(node):
        at: tuple[Any, ...] = (slice(None), *place)
        yield kernel[at], start


def _every(start: Sequence[int], stride: Sequence[int], count: Sequence[int]) -> tuple[Any, ...]:
    triples = zip(start, stride, count, strict=True)
    return (..., *(slice(first, first + step * (n - 1) + 1, step) for first, step, n in triples))
