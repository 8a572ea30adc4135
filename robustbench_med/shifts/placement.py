"""A patient who lies elsewhere: moved, turned and of another size, in the plane of a slice."""

from dataclasses import dataclass, replace
from math import pi
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import (
    require_images,
    require_pixel_mm,
    require_plane,
)
from robustbench_med.shifts.severity import Levels, require_levels_or_zeros, strength
from robustbench_med.streams import CaseRng

Unit = Literal["mm", "pixels"]


@dataclass(frozen=True)
class Placement:
    """Move, turn and scale the patient in the last two axes, and all that lies on the image's grid.

    The image is interpolated linearly between its pixels. Its target goes along where it has the
    image's rows and columns, and so does each such entry of the context: whole numbers and truth
    values by the nearest pixel, other numbers as the image; complex ones, maps of coils, stay. All
    channels, slices and phases move alike. What comes in from outside repeats the outermost pixel,
    label and all. Everything else stays, so a target that is a size in mm does not follow the
    scale. Draws are uniform in the ranges and alike at every severity.

    Attributes:
        move: Farthest along rows and along columns, in `unit`.
        degrees: Largest turn either way, about the image's middle.
        log_scale: Natural logarithm of the largest scale; the least is its inverse. Two of the
            three may be five zeros, for none of it.
        unit: "mm", which needs `spacing` in the context; or "pixels", which are taken as square.

    Source: the backward mapping of an affine transform with linear interpolation, as in scipy's
    `affine_transform(order=1, mode="nearest")`.
    """

    move: Levels = (2.0, 4.0, 6.0, 8.0, 10.0)
    degrees: Levels = (3.0, 6.0, 9.0, 12.0, 15.0)
    log_scale: Levels = (0.03, 0.06, 0.09, 0.12, 0.15)
    unit: Unit = "mm"

    def __post_init__(self) -> None:
        for name in ("move", "degrees", "log_scale"):
            levels = require_levels_or_zeros(f"placement: {name}", getattr(self, name))
            object.__setattr__(self, name, levels)
        if not any((*self.move, *self.degrees, *self.log_scale)):
            raise InputError("placement: move, degrees or log_scale must be above 0, all are 0")
        if self.unit not in get_args(Unit):
            raise InputError(f"placement: unit must be mm or pixels, got {self.unit!r}")

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` and `ranges` raise."""
        if severity == 0:
            return batch
        ranges = self.ranges(batch, severity)
        # Not the probe's own stream, whose name holds the severity: only the size is to differ.
        drawn = CaseRng(rng.seed, "placement", rng.case_ids).uniform(len(ranges)).unbind(dim=1)
        limits = zip(ranges.items(), drawn, strict=True)
        return self.apply(
            batch, {name: low + (high - low) * share for (name, (low, high)), share in limits}
        )

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`.

        `down_mm` and `right_mm`, or `down_pixels` and `right_pixels`, say whither the middle goes;
        `degrees` turns from columns towards rows; `log_scale` above 0 enlarges.

        Raises:
            InputError: If the severity is outside 0 to 5.
        """
        del batch
        far, turn, scale = (
            strength("placement", levels, severity)
            for levels in (self.move, self.degrees, self.log_scale)
        )
        names = f"down_{self.unit}", f"right_{self.unit}", "degrees", "log_scale"
        return {
            name: (-most, most) for name, most in zip(names, (far, far, turn, scale), strict=True)
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; the image is differentiable in all parameters.

        Raises:
            CaseError: If the case is k-space, or mm are asked for and the context has no
                `spacing`.
            UnsupportedError: If there are fewer than two spatial axes, or the target has rows and
                columns of its own.
        """
        require_images("placement", batch)
        image = require_plane("placement", batch)
        plane = image.shape[-2:]
        if batch.target.ndim >= image.ndim - 1 and batch.target.shape[-2:] != plane:
            raise UnsupportedError(
                f"placement: the target must have the image's rows and columns to be moved along, "
                f"got {tuple(batch.target.shape[-2:])} and {tuple(plane)}"
            )
        pixel_mm = torch.ones(len(batch), 2, dtype=torch.float64)
        if self.unit == "mm":
            pixel_mm = require_pixel_mm("placement", batch, '; or set unit = "pixels"')
        values = torch.stack([parameters[name] for name in self.ranges(batch, 0)], dim=1)
        grid = sources(values.to(image.device).double(), pixel_mm.to(image.device), plane)
        context = {name: _along(value, grid, plane) for name, value in batch.context.items()}
        target = _along(batch.target, grid, plane)
        return replace(batch, image=moved(image, grid), target=target, context=context)


def sources(values: Tensor, pixel_mm: Tensor, plane: tuple[int, ...]) -> Tensor:
    """Where each pixel comes from, `(b, h, w, 2)`: column and row, -1 to 1 between outer edges.

    Args:
        values: `(b, 4)`: down, right, degrees from columns towards rows, log of the scale.
        pixel_mm: `(b, 2)`: distance of rows and of columns, in the unit of down and right.
        plane: Rows and columns.
    """
    down, right, degrees, log_scale = values[..., None, None].unbind(dim=1)
    row_mm, column_mm = pixel_mm[..., None, None].unbind(dim=1)
    rows, columns = (
        torch.arange(size, dtype=torch.float64, device=values.device) - (size - 1) / 2
        for size in plane
    )
    y, x = rows.view(1, -1, 1) * row_mm - down, columns * column_mm - right
    shrink, angle = (-log_scale).exp(), degrees * (pi / 180)
    from_x = shrink * (angle.cos() * x + angle.sin() * y) / column_mm
    from_y = shrink * (angle.cos() * y - angle.sin() * x) / row_mm
    return torch.stack([2 * from_x / plane[1], 2 * from_y / plane[0]], dim=-1)


def moved(values: Tensor, grid: Tensor) -> Tensor:
    """Values `(b, ..., h, w)` as found at the `sources`; of whole numbers, the nearest one's.

    In double precision, so that whole pixels and quarter turns give exactly what was there.
    """
    smooth = values.is_floating_point()
    planes = values.reshape(len(values), -1, *values.shape[-2:]).double()
    mode = "bilinear" if smooth else "nearest"
    found = F.grid_sample(planes, grid, mode, padding_mode="border", align_corners=False)
    return found.to(values.dtype).view_as(values)


def _along(values: Tensor, grid: Tensor, plane: tuple[int, ...]) -> Tensor:
    """Values moved along if they lie on the image's grid, else themselves."""
    on_grid = values.ndim >= 3 and values.shape[-2:] == plane and not values.is_complex()
    return moved(values, grid) if on_grid else values
