"""Small rotations and translations: pixel boxes of sub-intervals by a derived Lipschitz bound."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from robustbench_med.errors import InputError
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.proof import InputSet

# Pixels, or grey levels of an image of about 1, added to every distance for rounding.
SLACK = 1e-9


@dataclass(frozen=True)
class Pose:
    """Where an image is put: it is read at `R(degrees) (place - middle) + middle + shift`.

    Attributes:
        degrees: Rotation about the image's middle.
        down: Shift along the first spatial axis, in pixels.
        right: Shift along the second, in pixels.
    """

    degrees: float = 0.0
    down: float = 0.0
    right: float = 0.0


@dataclass(frozen=True)
class _Places:
    """Where every pixel is read, `(h, w)` each, and the turned offset from the middle."""

    down: Floats
    right: Floats
    turned_down: Floats
    turned_right: Floats


def posed(image: Floats, pose: Pose) -> Floats:
    """Resample an image `(c, h, w)` bilinearly, with zeros around it."""
    places = _places(image.shape[1:], pose)
    row, column = np.floor(places.down), np.floor(places.right)
    a, b = places.down - row, places.right - column
    (v00, v01), (v10, v11) = _corners(_around(image), row, column)
    upper, lower = (1 - b) * v00 + b * v01, (1 - b) * v10 + b * v11
    return np.asarray((1 - a) * upper + a * lower)


def pose_boxes(
    image: Floats, degrees: float, pixels: float = 0.0, parts: tuple[int, int] = (64, 1)
) -> tuple[InputSet, ...]:
    """Enclose an image under every rotation and shift up to some size, by sub-intervals.

    Derivation. Let I be the bilinear interpolant, and a pixel be read at q = m + r + t, where
    m is the middle, t the shift and r = R(angle) p the turned offset. Within a cell of the grid
    dI/dx lies between the differences along the cell's two rows, and dI/dy between those along its
    two columns. As dr/dangle = (dy, dx) = (r_x, -r_y), along a straight path of parameters

        dI = (I_y r_x - I_x r_y) d angle + I_y d t_y + I_x d t_x.

    I is continuous and the path crosses finitely many cells, so that over a sub-interval of half
    widths (A, T, T) around (angle_0, t_0) the pixel differs from its value at the middle by at most

        L = A max |I_y r_x - I_x r_y| + T max |I_y| + T max |I_x|,

    with the maxima over all cells that q can reach: |q_y - q0_y| <= A (|r0_x| + A |r|) + T, since
    |r_x| itself moves by no more than A |r|, and likewise q_x. Products are bounded as intervals, a
    cell at a time. Besides, an interpolated value lies between the corners of its cell. The box is
    what both allow.

    Args:
        image: `(c, h, w)`, finite.
        degrees: Largest rotation about the middle, either way.
        pixels: Largest shift along each axis, either way.
        parts: Sub-intervals of the rotation, and of each shift.

    Returns:
        One box each; together they hold every posed image.

    Raises:
        InputError: If the image is none, or a size is negative or no part is asked for.
    """
    if image.ndim != 3 or not np.isfinite(image).all():
        raise InputError(f"pose_boxes: image must be finite (c, h, w), got {image.shape}")
    if not (0 <= degrees <= 180 and 0 <= pixels < np.inf and min(parts) >= 1):
        raise InputError(
            "pose_boxes: needs degrees of 0 to 180, pixels of at least 0 and at least 1 part of "
            f"each, got {degrees}, {pixels} and {parts}"
        )
    turn, shift = degrees / parts[0], pixels / parts[1]
    turns = (np.arange(parts[0]) * 2 + 1) * turn - degrees
    shifts = (np.arange(parts[1]) * 2 + 1) * shift - pixels
    middles = (Pose(*map(float, each)) for each in product(turns, shifts, shifts))
    return tuple(pose_box(image, middle, turn, shift) for middle in middles)


def pose_box(image: Floats, middle: Pose, degrees: float, pixels: float) -> InputSet:
    """Enclose an image under every pose near one; see `pose_boxes`.

    Args:
        image: `(c, h, w)`.
        middle: The pose in the middle.
        degrees: How far the rotation is from it at most.
        pixels: How far either shift is from it at most.
    """
    places = _places(image.shape[1:], middle)
    turn, shift = np.deg2rad(degrees) * (1 + SLACK), pixels * (1 + SLACK) + SLACK
    length = np.hypot(places.turned_down, places.turned_right)
    moved = turn * turn * length
    far_down = turn * np.abs(places.turned_right) + moved
    far_right = turn * np.abs(places.turned_down) + moved
    offsets = (places.turned_down, far_down), (places.turned_right, far_right)
    reach = np.zeros(image.shape)
    least, most = np.full(image.shape, np.inf), np.full(image.shape, -np.inf)
    for corners in _cells(image, places, far_down + shift, far_right + shift):
        (v00, v01), (v10, v11) = corners
        along_down, along_right = _between(v10 - v00, v11 - v01), _between(v01 - v00, v11 - v10)
        steep = shift * (_largest(along_down) + _largest(along_right))
        reach = np.maximum(reach, turn * _turning(along_down, along_right, offsets) + steep)
        least, most = (
            np.minimum(least, np.min(corners, axis=(0, 1))),
            np.maximum(most, np.max(corners, axis=(0, 1))),
        )
    value, slack = posed(image, middle), SLACK * (1 + np.abs(image).max())
    low = np.maximum(value - reach, least) - slack
    return InputSet(low, np.minimum(value + reach, most) + slack)


Span = tuple[Floats, Floats]


def _turning(along_down: Span, along_right: Span, offsets: tuple[Span, Span]) -> Floats:
    """Bound |I_y r_x - I_x r_y| of one cell; offsets are (middle, how far)."""
    (down, far_down), (right, far_right) = offsets
    one = _times(along_down, (right - far_right, right + far_right))
    other = _times(along_right, (down - far_down, down + far_down))
    return np.maximum(np.abs(one[0] - other[1]), np.abs(one[1] - other[0]))


def _times(one: Span, other: Span) -> Span:
    products = np.stack([a * b for a in one for b in other])
    return products.min(axis=0), products.max(axis=0)


def _between(one: Floats, other: Floats) -> Span:
    return np.minimum(one, other), np.maximum(one, other)


def _largest(span: Span) -> Floats:
    return np.maximum(np.abs(span[0]), np.abs(span[1]))


def _cells(
    image: Floats, places: _Places, far_down: Floats, far_right: Floats
) -> Iterator[tuple[tuple[Floats, Floats], tuple[Floats, Floats]]]:
    """Yield corners of every cell that a pixel's place can reach, each pixel's own at a time."""
    around = _around(image)
    top, bottom = np.floor(places.down - far_down), np.floor(places.down + far_down)
    left, right = np.floor(places.right - far_right), np.floor(places.right + far_right)
    for down in range(int((bottom - top).max()) + 1):
        for across in range(int((right - left).max()) + 1):
            # A pixel with fewer cells than another meets its last one again.
            row, column = np.minimum(top + down, bottom), np.minimum(left + across, right)
            yield _corners(around, row, column)


def _places(space: tuple[int, ...], pose: Pose) -> _Places:
    height, width = space
    middle = (height - 1) / 2, (width - 1) / 2
    down, right = np.meshgrid(
        np.arange(height) - middle[0], np.arange(width) - middle[1], indexing="ij"
    )
    angle = np.deg2rad(pose.degrees)
    turned_down = np.cos(angle) * down + np.sin(angle) * right
    turned_right = -np.sin(angle) * down + np.cos(angle) * right
    return _Places(
        turned_down + middle[0] + pose.down, turned_right + middle[1] + pose.right,
        turned_down, turned_right,
    )  # fmt: skip


def _around(image: Floats) -> Floats:
    return np.pad(image, [(0, 0), (2, 2), (2, 2)])


def _corners(
    around: Floats, row: Floats, column: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Pick the corners of cells; those beyond the zeros around the image are zeros as well."""
    height, width = around.shape[1] - 4, around.shape[2] - 4
    i = np.clip(row, -2, height).astype(np.int64) + 2
    j = np.clip(column, -2, width).astype(np.int64) + 2
    first = around[:, i, j], around[:, i, j + 1]
    return first, (around[:, i + 1, j], around[:, i + 1, j + 1])
