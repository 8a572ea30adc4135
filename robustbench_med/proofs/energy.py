"""Limits of the energy of an error, from what of it is linear and limits of what is not."""

import numpy as np

from robustbench_med.proofs.image_outputs import Linear
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.rounding import EPSILON, TINY, centred, rounding

Limits = tuple[float, float]


def by_voxel(least: Floats, most: Floats) -> Limits:
    """Bound a sum of squares, each value within its own limits.

    Every value is given its worst at once, which no one input need do.

    Args:
        least: `(m,)`, what each value is at least.
        most: `(m,)`, what it is at most.
    """
    error = rounding(len(least))
    near = np.maximum(np.maximum(least, -most), 0)
    far = np.maximum(np.abs(least), np.abs(most))
    lowest = max(down(np.square(near).sum() * (1 - error)), 0.0)
    return lowest, up(np.square(far).sum() * (1 + error))


def by_slopes(linear: Linear, reference: Floats, rest: tuple[Floats, Floats]) -> Limits:
    """Bound `|middle + matrix d + r - reference|^2` over moves `d` and all `r` within limits.

    With v the error at the start and q at least the most of `|matrix d|^2`,

        |v + matrix d + r|^2 <= |v|^2 + 2 max v.matrix d + q + 2 |v|.|r| + 2 sqrt(q) |r| + |r|^2

    where `|r|` are the largest magnitudes of r about its middle, which is put into v. The first
    maximum is exact over a box and over a ball; q comes from the largest singular value, the one
    place where a direction and not a voxel decides: by voxel the same energy would be counted for
    as many voxels as a move can reach.

    Args:
        linear: The linear part.
        reference: `(m,)`.
        rest: `(m,)` each, limits of what is not linear.
    """
    middle, half = centred(*rest)
    begun = linear.middle - reference
    error = begun + middle
    half = half + EPSILON * (np.abs(begun) + 2 * np.abs(error)) + TINY
    wide = 1 + rounding(len(error))
    along = np.abs(error @ linear.matrix)
    along = along + rounding(len(error)) * (np.abs(error) @ np.abs(linear.matrix)) + TINY
    first, second = _reached(linear, along)
    size, other = np.square(error).sum(), np.square(half).sum() * wide
    crossed = (np.abs(error) * half).sum() * wide
    most = size * wide + 2 * (first + crossed + np.sqrt(second * other)) + second + other
    least = size * (2 - wide) - 2 * (first + crossed) * (1 + 8 * EPSILON)
    apart = np.sqrt(size * (2 - wide)) - (np.sqrt(second) + np.sqrt(other)) * (1 + 8 * EPSILON)
    apart = max(apart - 8 * EPSILON * np.sqrt(size), 0.0)
    return max(down(least - 8 * EPSILON * size), down(apart * apart), 0.0), up(most)


def _reached(linear: Linear, along: Floats) -> tuple[float, float]:
    """The most of `along @ |d|` and of `|matrix d|^2`, over the box, the ball, or both."""
    count = len(linear.reach)
    wide = 1 + rounding(count)
    first = float((along * linear.reach).sum() * wide)
    scaled = linear.matrix * linear.reach
    second = up(stretch(scaled) ** 2 * count)
    if np.isfinite(linear.radius):
        first = min(first, up(float(np.sqrt(np.square(along).sum() * wide)) * linear.radius))
        second = min(second, up((stretch(linear.matrix) * linear.radius) ** 2))
    return up(first), second


def stretch(matrix: Floats) -> float:
    """Bound a matrix's largest singular value from above.

    Vectors V that nearly are eigenvectors of its Gram matrix G make `V^T G V` nearly diagonal. For
    any V that can be inverted, the largest eigenvalue of G is at most the largest row sum of
    `|V^T G V|` by the smallest eigenvalue of `V^T V`, itself at least 1 less the largest row sum of
    `|V^T V - 1|`. Every product's rounding is added to its row sums.

    Args:
        matrix: `(m, f)`; products that were rounded to get it, once each, are accounted for.
    """
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    gram = (gram + gram.T) / 2
    inner, outer = max(matrix.shape), len(gram)
    total = float(np.square(matrix).sum() * (1 + rounding(matrix.size)))
    if total == 0 or not np.isfinite(total):
        return total
    vectors = np.linalg.eigh(gram)[1]
    sizes, loss = np.abs(vectors), rounding(outer)
    ones = np.ones(outer)
    turned = np.abs(vectors.T @ gram @ vectors) @ ones
    turned = turned + 4 * loss * (sizes.T @ (np.abs(gram) @ (sizes @ ones)))
    crooked = np.abs(vectors.T @ vectors - np.eye(outer)) @ ones
    crooked = crooked + 2 * loss * (sizes.T @ (sizes @ ones) + 1)
    straight = 1 - 2 * float(crooked.max())
    if straight < 0.5:
        return up(float(np.sqrt(total)))
    value = float(turned.max()) * (1 + loss) / straight + 2 * rounding(inner) * total
    rounded = (1 + 8 * EPSILON) * np.sqrt(value) + 2 * EPSILON * np.sqrt(total) + TINY
    return up(min(float(rounded), float(np.sqrt(total)) * (1 + 8 * EPSILON)))


def up(value: float) -> float:
    """Round upwards past a few roundings of what went before."""
    return float(np.nextafter(value + 8 * EPSILON * abs(value) + TINY, np.inf))


def down(value: float) -> float:
    """Round downwards past a few roundings of what went before."""
    return float(np.nextafter(value - 8 * EPSILON * abs(value) - TINY, -np.inf))
