"""Coefficients of an affine node's value, turned into coefficients of its inputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from robustbench_med.proofs.evaluation import along, offsets
from robustbench_med.proofs.network import Floats, Node, size

CACHE = 2**20


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


def _convolved(node: Node, coefficients: Floats, shape: tuple[int, ...]) -> Floats:
    groups = node.settings["groups"][0]
    weight = node.arrays["weight"]
    kernel = weight.reshape(groups, -1, *weight.shape[1:])
    one = _scattered if node.kind == "conv" else _gathered
    result = np.empty((len(coefficients), *shape))
    for part in _blocks(len(coefficients), max(size(shape), size(node.shape))):
        result[part] = one(node, coefficients[part], kernel, shape)
    return result


def _blocks(rows: int, width: int) -> Iterator[slice]:
    # Each kernel position goes over all of a block again: it should stay in the cache.
    step = max(1, CACHE // (8 * width))
    return (slice(first, first + step) for first in range(0, rows, step))


def _scattered(node: Node, rows: Floats, kernel: Floats, shape: tuple[int, ...]) -> Floats:
    padding, stride = node.settings["padding"], node.settings["stride"]
    groups, _, inside = kernel.shape[:3]
    whole = [n + 2 * p for n, p in zip(shape[1:], padding, strict=True)]
    around = np.zeros((len(rows), *shape[:1], *whole))
    flat = rows.reshape(len(rows), groups, -1, size(node.shape[1:]))
    for tap, start in _taps(node, kernel):
        matrix = np.ascontiguousarray(tap.transpose(0, 2, 1))
        back = (matrix @ flat).reshape(len(rows), groups * inside, *node.shape[1:])
        around[_every(start, stride, node.shape[1:])] += back
    inner: Floats = around[_every(padding, (1,) * len(padding), shape[1:])]
    return inner


def _gathered(node: Node, rows: Floats, kernel: Floats, shape: tuple[int, ...]) -> Floats:
    stride, padding = node.settings["stride"], (0, 0, *node.settings["padding"])
    groups, _, outside = kernel.shape[:3]
    around = np.pad(rows, [(width, width) for width in padding])
    result = np.zeros((len(rows), groups, shape[0] // groups, size(shape[1:])))
    for tap, start in _taps(node, kernel):
        seen = around[_every(start, stride, shape[1:])]
        result += np.ascontiguousarray(tap) @ seen.reshape(len(rows), groups, outside, -1)
    return result.reshape(len(rows), *shape)


def _taps(node: Node, kernel: Floats) -> Iterator[tuple[Floats, tuple[int, ...]]]:
    """List the matrix at each kernel position, and how far that lies from the first."""
    for place, start in offsets(node):
        at: tuple[Any, ...] = (..., *place)
        yield kernel[at], start


def _every(start: Sequence[int], stride: Sequence[int], count: Sequence[int]) -> tuple[Any, ...]:
    triples = zip(start, stride, count, strict=True)
    return (..., *(slice(first, first + step * (n - 1) + 1, step) for first, step, n in triples))
