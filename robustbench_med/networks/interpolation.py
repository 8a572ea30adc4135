"""Interpolation of a stack of thick slices: the baseline that a network has to beat."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError

TASK = "super_resolution"
BOUNDED_BY = ""
InPlane = Literal["linear", "cubic"]


def interpolation(
    *, in_plane: InPlane = "linear", factors: Sequence[int] = (5, 2, 2)
) -> "Interpolation":
    """Build what maps `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`, without parameters.

    Voxels are cells: thick slice `z` covers the thin slices `fz z` to `fz z + fz - 1`, and
    values belong to the centres. Beyond the outermost centres the image is continued by its
    last value (linear), or by the nearest cells alone (cubic).

    Args:
        in_plane: Across y and x: "linear", which keeps to the image's range, or "cubic", which
            may go beyond it. Through the slices it is linear, as slices are few.
        factors: How many thin voxels a thick one is cut into along z, y and x.

    Raises:
        InputError: If `in_plane` is unknown, or the factors are not three numbers of at least 1.

    Source: Keys, IEEE Trans. ASSP 29 (1981), DOI 10.1109/TASSP.1981.1163711, for the cubic,
    with a = -1/2.
    """
    if in_plane not in get_args(InPlane):
        known = ", ".join(get_args(InPlane))
        raise InputError(f"interpolation: in_plane must be one of {known}, got {in_plane!r}")
    if len(factors) != 3 or min(factors) < 1:
        raise InputError(f"interpolation: factors must be three of at least 1, got {factors}")
    return Interpolation(in_plane, (factors[0], factors[1], factors[2]))


class Interpolation(nn.Module):
    """See `interpolation`, which builds it."""

    def __init__(self, in_plane: InPlane, factors: tuple[int, int, int]) -> None:
        super().__init__()
        self.in_plane = in_plane
        self.factors = factors

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

        Raises:
            InputError: If the images have not three axes.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and image.ndim != 5:
            raise InputError(
                f"interpolation: expected stacks (b, c, z, y, x), got {tuple(image.shape)}"
            )
        slices, rows, columns = self.factors
        if self.in_plane == "linear":
            return F.interpolate(image, scale_factor=self.factors, mode="trilinear")
        stack = image.movedim(2, 1)
        # With `antialias` torch takes Keys' a = -1/2, which keeps straight lines straight.
        fine = F.interpolate(
            stack.flatten(0, 1), scale_factor=(rows, columns), mode="bicubic", antialias=True
        )
        fine = fine.reshape(*stack.shape[:2], *fine.shape[1:]).movedim(1, 2)
        return F.interpolate(fine, scale_factor=(slices, 1, 1), mode="trilinear")

    def extra_repr(self) -> str:
        """What tells one from another, as there are no weights: digests are made from it."""
        return f"in_plane={self.in_plane}, factors={self.factors}"
