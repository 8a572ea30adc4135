"""Images and masks on the grid a model expects: resized or cropped in plane, never across z."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.components import suggest
from robustbench_med.errors import raise_together

Fit = Literal["resize", "crop"]


@dataclass(frozen=True)
class Grid:
    """Rows and columns that a model is given.

    Attributes:
        size: Rows and columns; None leaves every image on its own grid.
        fit: `resize` resamples and lets the aspect change; `crop` cuts the centre out, and
            surrounds what is smaller by the lowest intensity and by background.
    """

    size: tuple[int, int] | None = None
    fit: Fit = "resize"

    def image(self, image: Tensor) -> Tensor:
        """Return `(c, *s)` in [0, 1] on this grid; resampling is bilinear and antialiased."""
        if self.size is None:
            return image
        if self.fit == "crop":
            return _crop(image, self.size, 0.0)
        planes = image.flatten(end_dim=-3)[:, None]
        planes = F.interpolate(
            planes, self.size, mode="bilinear", align_corners=False, antialias=True
        )
        return planes.reshape(*image.shape[:-2], *self.size).clamp(0, 1)

    def mask(self, mask: Tensor, background: int) -> Tensor:
        """Return class indices `(*s)` on this grid; resampling takes the nearest neighbour."""
        if self.size is None:
            return mask
        if self.fit == "crop":
            return _crop(mask, self.size, background)
        planes = mask.reshape(-1, 1, *mask.shape[-2:]).to(torch.float64)
        planes = F.interpolate(planes, self.size, mode="nearest-exact")
        return planes.reshape(*mask.shape[:-2], *self.size).to(torch.int64)

    def spacing_mm(self, stored_mm: Sequence[float], shape: Sequence[int]) -> Tensor:
        """Return the voxel size on this grid, float32, of an image stored as `(..., y, x)`."""
        spacing = torch.tensor(stored_mm, dtype=torch.float64)
        if self.size is not None and self.fit == "resize":
            spacing[-2:] *= torch.tensor(shape[-2:]) / torch.tensor(self.size)
        return spacing.to(torch.float32)


def read_grid(size: object, fit: Fit) -> Grid:
    """Read the keys `size` and `fit` of a plan.

    Raises:
        InputError: If `size` is not two positive integers, or `fit` not one of its words.
    """
    problems = []
    if fit not in get_args(Fit):
        problems.append(f"fit: no {fit!r}; {suggest(str(fit), get_args(Fit))}")
    edges = list(size) if isinstance(size, list | tuple) else []
    pair = [type(edge) for edge in edges] == [int, int] and min(edges) >= 1
    if size is not None and not pair:
        problems.append(f"size: expected two positive integers, rows and columns, got {size!r}")
    raise_together(problems)
    return Grid((edges[0], edges[1]) if pair else None, fit)


def _crop(values: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    pads: list[int] = []
    for stored, wanted in zip(reversed(values.shape[-2:]), reversed(size), strict=True):
        before = (wanted - stored) // 2
        pads += [before, wanted - stored - before]
    return F.pad(values, pads, value=fill)
