"""Coefficients that are 0 outside a patch of the image, and so need not be stored there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from robustbench_med.proofs.network import LOCAL, Floats, Node
from robustbench_med.proofs.proof import Indices
from robustbench_med.proofs.transposes import transposed

Shape = tuple[int, ...]
TILE = 4


@dataclass(frozen=True)
class Patch:
    """Coefficients of a value, 0 outside.

    Attributes:
        rows: `(r, c, *extent)`, or `(r, n)` for a value of one axis.
        origin: Where it starts, along each axis after the first.
    """

    rows: Floats
    origin: Shape

    @property
    def extent(self) -> Shape:
        """Its length along each axis after the first."""
        return self.rows.shape[2:]

    def cut(self, array: Floats) -> Floats:
        """Cut the same patch out of an array of the value's shape, or of several such."""
        inner = (slice(a, a + n) for a, n in zip(self.origin, self.extent, strict=True))
        place: tuple[Any, ...] = (..., slice(None), *inner)
        return array[place] if self.origin else array

    def of(self, array: Floats) -> Floats:
        """Cut the same patch out of an array of the value's shape; flat."""
        return self.cut(array).ravel()

    def whole(self, shape: Shape) -> "Patch":
        """Fill up with zeros to the whole value."""
        if self.extent == tuple(shape[1:]):
            return self
        rows = np.zeros((len(self.rows), *shape))
        self.cut(rows)[...] = self.rows
        return Patch(rows, (0,) * len(self.origin))


def all_of(rows: Floats) -> Patch:
    """Coefficients `(r, *shape)` of a whole value."""
    return Patch(rows, (0,) * (rows.ndim - 2))


def at(columns: Indices, values: Floats, shape: Shape) -> Patch:
    """Coefficients of a few elements of a value, in the smallest patch that holds them all.

    Args:
        columns: `(r, t)`, elements of the flat value; all different within a row.
        values: `(r, t)`, their coefficients.
        shape: Of the value.
    """
    places = np.stack(np.unravel_index(columns, shape))
    origin = tuple(int(axis.min()) for axis in places[1:])
    extent = tuple(int(axis.max()) - a + 1 for axis, a in zip(places[1:], origin, strict=True))
    rows = np.zeros((len(columns), shape[0], *extent))
    inside = tuple(axis - a for axis, a in zip(places, (0, *origin), strict=True))
    rows[(np.arange(len(columns))[:, None], *inside)] = values
    return Patch(rows, origin)


def by_tile(columns: Indices, shape: Shape, most: int) -> Iterator[Indices]:
    """Group rows whose elements lie near each other, so that their patches stay small.

    Args:
        columns: `(r, t)`, elements of the flat value that a row is about.
        shape: Of the value.
        most: Rows of a group.

    Yields:
        Positions of rows.
    """
    if not len(columns):
        return
    tiles = [axis[:, 0] // TILE for axis in np.unravel_index(columns, shape)[1:]]
    order = np.lexsort(tiles) if tiles else np.arange(len(columns))
    changes = [np.flatnonzero(np.diff(tile[order])) + 1 for tile in tiles]
    ends = np.unique(np.concatenate([*changes, [len(columns)]])).astype(np.int64)
    for start, end in pairwise([0, *ends.tolist()]):
        for first in range(start, end, most):
            yield order[first : min(first + most, end)]


def together(one: Patch, other: Patch) -> Patch:
    """Add two patches of the same value."""
    ends = [
        tuple(a + n for a, n in zip(each.origin, each.extent, strict=True)) for each in (one, other)
    ]
    origin = tuple(map(min, one.origin, other.origin))
    extent = tuple(max(pair) - a for *pair, a in zip(*ends, origin, strict=True))
    if (one.origin, one.extent) == (other.origin, other.extent):
        return Patch(one.rows + other.rows, origin)
    sum_ = Patch(np.zeros((*one.rows.shape[:2], *extent)), origin)
    for each in (one, other):
        inside = tuple(a - b for a, b in zip(each.origin, origin, strict=True))
        Patch(each.rows, inside).cut(sum_.rows)[...] += each.rows
    return sum_


def back(node: Node, patch: Patch, shapes: Sequence[Shape]) -> Iterator[Patch]:
    """Turn coefficients of an affine node's value into coefficients of each of its inputs.

    Args:
        node: Neither an input nor a ReLU.
        patch: Of its value.
        shapes: Of its inputs.

    Yields:
        One patch for each input.
    """
    concat_elsewhere = node.kind == "concat" and node.settings["axis"][0] != 0
    beside = node.kind == "conv" and not _reaches_inside(node)
    if node.kind not in LOCAL or concat_elsewhere or beside or not patch.origin:
        for rows in transposed(node, patch.whole(node.shape).rows, shapes):
            yield all_of(rows)
    elif node.kind == "conv":
        yield _scattered(node, patch, shapes[0])
    elif node.kind == "conv_transpose":
        yield _gathered(node, patch, shapes[0])
    elif node.kind == "scale":
        factor = np.broadcast_to(node.arrays["factor"], node.shape)
        yield Patch(patch.rows * patch.cut(factor), patch.origin)
    else:  # sum and concat
        cropped = [(shape[0], *patch.extent) for shape in shapes]
        for rows in transposed(node, patch.rows, cropped):
            yield Patch(rows, patch.origin)


def _scattered(node: Node, patch: Patch, shape: Shape) -> Patch:
    stride, padding = node.settings["stride"], node.settings["padding"]
    span = _span(node)
    reached = [(n - 1) * s + k for n, s, k in zip(patch.extent, stride, span, strict=True)]
    bare = _without_padding(node, patch)
    rows = transposed(bare, patch.rows, [(shape[0], *reached)])[0]
    starts = [a * s - p for a, s, p in zip(patch.origin, stride, padding, strict=True)]
    origin = tuple(max(a, 0) for a in starts)
    # What falls beside the image met the zeros around it.
    inner: list[Any] = [
        slice(a - b, min(b + n, whole) - b)
        for a, b, n, whole in zip(origin, starts, reached, shape[1:], strict=True)
    ]
    return Patch(np.ascontiguousarray(rows[(..., *inner)]), origin)


def _gathered(node: Node, patch: Patch, shape: Shape) -> Patch:
    origin, ends, sides = [], [], []
    places = zip(
        patch.origin, patch.extent, node.settings["stride"], node.settings["padding"], _span(node),
        shape[1:], strict=True,
    )  # fmt: skip
    for a, n, s, p, k, whole in places:
        # Input i touches the outputs from i s - p to i s - p + k - 1. One at least is kept, so
        # that a patch that no input touches stays a patch.
        first = min(max(-((k - 1 - a - p) // s), 0), whole - 1)
        last = max(min((a + n - 1 + p) // s, whole - 1), first)
        before = a + p - first * s
        origin.append(first)
        ends.append(last - first + 1)
        sides.append((before, (last - first) * s + k - before - n))
    rows = patch.rows
    for axis, (before, after) in enumerate(sides, start=2):
        rows = _fitted(rows, axis, before, after)
    bare = _without_padding(node, Patch(rows, patch.origin))
    return Patch(transposed(bare, rows, [(shape[0], *ends)])[0], tuple(origin))


def _fitted(rows: Floats, axis: int, before: int, after: int) -> Floats:
    """Add zeros on both sides of an axis; a negative number takes away."""
    length = rows.shape[axis]
    kept = [slice(None)] * rows.ndim
    kept[axis] = slice(max(-before, 0), length - max(-after, 0))
    wide = [(0, 0)] * rows.ndim
    wide[axis] = (max(before, 0), max(after, 0))
    return np.pad(rows[tuple(kept)], wide)


def _without_padding(node: Node, patch: Patch) -> Node:
    none = (0,) * len(patch.extent)
    settings = {**node.settings, "padding": none, "output_padding": none}
    return replace(node, shape=(node.shape[0], *patch.extent), settings=settings)


def _span(node: Node) -> list[int]:
    """How far a kernel reaches along each axis, in pixels, both ends counted."""
    kernel = node.arrays["weight"].shape[2:]
    return [d * (k - 1) + 1 for d, k in zip(node.settings["dilation"], kernel, strict=True)]


def _reaches_inside(node: Node) -> bool:
    """Whether each output of a convolution reads at least one pixel of the image."""
    return all(p < k for p, k in zip(node.settings["padding"], _span(node), strict=True))
