"""Where the squares of a random search lie and what they hold, for any number of axes.

Places are in images that have an axis; `d` is the number of axes, `n` that of cases.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of voxels that change is halved."""


def share_at(query: int, first: float) -> float:
    """Share of voxels that change at a query, counted from 0.

    Source: Andriushchenko et al., ECCV 2020, section 3.2 (for 10000 queries, not rescaled).
    """
    return first / 2.0 ** sum(query > end for end in SCHEDULE)


def sides_of(share: float, size: Sequence[int], *, least: int = 1) -> tuple[int, ...]:
    """Sides of the square (cube) that holds `share` of an image of `size`, cut to the image."""
    side = max(round((share * math.prod(size)) ** (1 / len(size))), least)
    return tuple(min(side, length) for length in size)


class Places:
    """Where squares may lie: anywhere, or around the voxels that may change.

    Args:
        size: Lengths of the image's axes.
        support: `(n, *size)`, true where a voxel may change; None: everywhere.
    """

    def __init__(self, size: Sequence[int], support: Tensor | None) -> None:
        self.size = tuple(size)
        self.support = support
        if support is not None:
            flat = support.flatten(start_dim=1)
            self.ordered = flat.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
            self.count = flat.sum(dim=1, keepdim=True)

    def starts(self, draws: Tensor, sides: Sequence[int]) -> Tensor:
        """First voxel of each case's square, `(n, d)`; `draws` are uniform, `(n, d + 1)`."""
        lengths, cut = (torch.tensor(one, device=draws.device) for one in (self.size, sides))
        room = lengths - cut
        if self.support is None:
            return (draws[:, :-1] * (room + 1)).long().minimum(room)
        # A square off the support changes nothing: lay each around a voxel of the support.
        voxel = self.ordered.gather(1, (draws[:, -1:] * self.count).long()).squeeze(1)
        corner = torch.stack(torch.unravel_index(voxel, self.size), dim=1)
        return (corner - (draws[:, :-1] * cut).long()).clamp(min=0).minimum(room)


def local_index(
    starts: Tensor, sides: Sequence[int], size: Sequence[int]
) -> tuple[Tensor, list[Tensor]]:
    """Which voxels the squares hold, `(n, 1, *size)`, and each voxel's place in its square.

    Returns:
        The mask, and for each axis the place along it, `(n, 1, .., length, .., 1)`, cut to the
        square.
    """
    inside = torch.ones((), dtype=torch.bool, device=starts.device)
    places = []
    for axis, length in enumerate(size):
        shape = [len(starts), 1, *(length if other == axis else 1 for other in range(len(size)))]
        place = torch.arange(length, device=starts.device) - starts[:, axis, None]
        inside = inside & ((place >= 0) & (place < sides[axis])).view(shape)
        places.append(place.clamp(0, sides[axis] - 1).view(shape))
    return inside, places


@lru_cache(maxsize=64)
def pyramid_pair(sides: tuple[int, ...], axis: int, order: float) -> Tensor:
    """A heap and a pit side by side along `axis`, of length 1 in `order`, shaped as `sides`.

    Source: Andriushchenko et al., ECCV 2020, section 3.3, equation 2; here for any number of axes.
    """
    half = sides[axis] // 2
    shape = list(sides)
    shape[axis] = half
    heap = _pyramid(shape)
    shape[axis] = sides[axis] - half
    pair = torch.cat([heap, -_pyramid(shape)], dim=axis)
    length: Tensor = torch.linalg.vector_norm(pair, order)
    return pair / length


def _pyramid(sides: Sequence[int]) -> Tensor:
    """Sum of nested boxes around the centre, the k-th smallest `1 / k^2` high."""
    if 0 in sides:
        return torch.zeros(tuple(sides), dtype=torch.float64)
    ring = torch.zeros(tuple(sides), dtype=torch.long)
    for axis, side in enumerate(sides):
        shape = [side if other == axis else 1 for other in range(len(sides))]
        ring = ring.maximum((torch.arange(side) - side // 2).abs().view(shape))
    heights = 1 / torch.arange(1, int(ring.max()) + 2, dtype=torch.float64).square()
    return heights.flip(0).cumsum(0).flip(0)[ring]


def tiling(size: Sequence[int]) -> tuple[tuple[int, ...], Tensor, list[Tensor], list[Tensor]]:
    """Tiles a fifth as long as the image along each axis, centred.

    Returns:
        Tiles along each axis; which voxels they hold, `size`; and for each axis a voxel's tile
        and its place in the tile, `(1, .., length, .., 1)`.
    """
    counts, tiles, places = [], [], []
    inside = torch.ones((), dtype=torch.bool)
    for axis, length in enumerate(size):
        side = max(length // 5, 1)
        counts.append(length // side)
        position = torch.arange(length) - (length - side * counts[axis]) // 2
        shape = [length if other == axis else 1 for other in range(len(size))]
        inside = inside & ((position >= 0) & (position < side * counts[axis])).view(shape)
        tiles.append((position // side).clamp(0, counts[axis] - 1).view(shape))
        places.append((position % side).view(shape))
    return tuple(counts), inside, tiles, places
