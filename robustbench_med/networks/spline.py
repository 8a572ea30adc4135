"""Cubic spline interpolation of a stack of thick slices, along all three axes."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError

TASK = "super_resolution"
BOUNDED_BY = ""


def spline(*, factors: Sequence[int] = (5, 2, 2)) -> "Spline":
    """Build what maps `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`, without parameters.

    Along each axis it is the cubic spline, twice continuously differentiable, through all voxels:
    each thin voxel depends on all thick ones of its line, and may go beyond their range. Voxels
    are cells: thick slice `z` covers the thin slices `fz z` to `fz z + fz - 1`, and values belong
    to the centres. Beyond the outermost centre, which is up to half a voxel of the stack, the
    stack is continued by its mirror image about that centre.

    Args:
        factors: How many thin voxels a thick one is cut into along z, y and x.

    Raises:
        InputError: If the factors are not three numbers of at least 1.

    Source: Unser et al., IEEE Trans. Signal Process. 41 (1993) 821-833,
    DOI 10.1109/78.193220: interpolation by B-splines.
    """
    if len(factors) != 3 or min(factors) < 1:
        raise InputError(f"spline: factors must be three of at least 1, got {factors}")
    return Spline((factors[0], factors[1], factors[2]))


class Spline(nn.Module):
    """See `spline`, which builds it."""

    def __init__(self, factors: tuple[int, int, int]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

        Raises:
            InputError: If the images have not three axes.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and image.ndim != 5:
            raise InputError(f"spline: expected stacks (b, c, z, y, x), got {tuple(image.shape)}")
        z, y, x = (
            spline_matrix(length, factor).to(image)
            for length, factor in zip(image.shape[2:], self.factors, strict=True)
        )
        # Slices last: fewest are left to do when the stack is largest.
        planes = y @ (image @ x.T)
        fine: Tensor = (z @ planes.flatten(3)).reshape(*image.shape[:2], -1, *planes.shape[3:])
        return fine

    def extra_repr(self) -> str:
        """What tells one from another, as there are no weights: digests are made from it."""
        return f"factors={self.factors}"


@lru_cache(maxsize=32)
def spline_matrix(length: int, factor: int) -> Tensor:
    """What each thick voxel of a line counts in each thin one, `(factor * length, length)`."""
    thick = torch.arange(length, dtype=torch.float64)
    thin = (torch.arange(factor * length, dtype=torch.float64) + 0.5) / factor - 0.5
    # Weights of the B-splines whose sum goes through the voxels, then that sum's values.
    weights: Tensor = torch.linalg.inv(_b_splines(thick, length))
    return _b_splines(thin, length) @ weights


def _b_splines(places: Tensor, length: int) -> Tensor:
    """Values at `places` of the B-splines about each voxel and its mirror images, `(n, length)`."""
    values = places.new_zeros(len(places), length)
    for centre in range(-2, length + 2):
        distance = (places - centre).abs()
        inside = 2 / 3 - distance**2 + distance**3 / 2
        outside = (2 - distance).clamp(min=0) ** 3 / 6
        values[:, _mirrored(centre, length)] += torch.where(distance < 1, inside, outside)
    return values


def _mirrored(index: int, length: int) -> int:
    """The voxel that a place beyond the line shows, the outermost ones not repeated."""
    if length == 1:
        return 0
    turn = index % (2 * (length - 1))
    return min(turn, 2 * (length - 1) - turn)
