"""A patient's slice as shares of tissue in each pixel, and the true labels."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.physics import heart as anatomy
from robustbench_med.physics.heart import ANGLES, Shape, q, shape_at
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.torso import parts

TISSUES = ("blood", "myocardium", "muscle", "fat", "liver", "spleen", "lung", "bone")
LABELS = ("background", "lv", "myo", "rv")
SUBSLICES = 4
TRABECULAE = (9, 13, 17)  # ridges around the cavity
TRABECULAR_SHARE = 0.05  # of the squared radius
HEART_NEEDS_MM = 140.0


@dataclass(frozen=True)
class Grid:
    """Pixels of a slice.

    Attributes:
        height: In pixels; likewise `width`.
        pixel_mm: Edge of a pixel.
    """

    height: int
    width: int
    pixel_mm: float

    def __post_init__(self) -> None:
        extent = min(self.height, self.width) * self.pixel_mm
        if extent < HEART_NEEDS_MM:
            raise InputError(
                f"image of {self.height} x {self.width} pixels of {self.pixel_mm:g} mm: "
                f"{extent:g} mm is smaller than the heart, which needs {HEART_NEEDS_MM:g} mm; "
                "raise size or pixel_mm"
            )

    def axes_mm(self) -> tuple[Tensor, Tensor]:
        """Place of each row `(h,)` and column `(w,)` from the image's centre."""
        down = torch.arange(self.height) - (self.height - 1) / 2
        across = torch.arange(self.width) - (self.width - 1) / 2
        return down * self.pixel_mm, across * self.pixel_mm


@dataclass(frozen=True)
class Slab:
    """Where a slice lies along the heart's axis: its middle from the base, and its thickness."""

    z_mm: float
    thick_mm: float

    def subslices(self) -> list[float]:
        """Heights at which the slice is looked at; their mean stands for the slice."""
        offsets = (np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5
        return [self.z_mm + self.thick_mm * float(offset) for offset in offsets]


def render(patient: Patient, contracted: float, slab: Slab, grid: Grid) -> tuple[Tensor, Tensor]:
    """Draw one slice.

    Args:
        patient: Whose.
        contracted: 0 at end-diastole to 1 at end-systole.
        slab: Where.
        grid: On which pixels.

    Returns:
        Share of each of `TISSUES`, `(tissue, h, w)`, summing to at most 1 (the rest is air);
        and share of each of `LABELS` but the background, `(3, h, w)`, papillary muscles counted
        as cavity, with the muscles' own share as a fourth entry.
    """
    rows, columns = grid.axes_mm()
    y, x = rows - patient.offset_mm[0], columns - patient.offset_mm[1]
    heart = _heart(patient, shape_at(patient.heart, contracted), slab, grid, y, x)
    shares = torch.zeros(len(TISSUES), grid.height, grid.width)
    for tissue, depth in parts(patient.torso, slab.z_mm, y[:, None], x[None, :]):
        _cover(shares, TISSUES.index(tissue), _within(depth, grid.pixel_mm))
    _cover(shares, TISSUES.index("fat"), heart.pad)
    shares *= 1 - heart.whole
    shares[0] += heart.left + heart.right - heart.papillary
    shares[1] += heart.muscle + heart.rim + heart.papillary
    return shares, torch.stack([heart.left, heart.muscle, heart.right, heart.papillary])


def labels(shares: Tensor, *, papillary_in_cavity: bool = True) -> Tensor:
    """Label of the largest share in each pixel, `(h, w)`, from the second result of `render`."""
    left, muscle, right, papillary = shares
    if not papillary_in_cavity:
        left, muscle = left - papillary, muscle + papillary
    background = 1 - left - muscle - right
    return torch.stack([background, left, muscle, right]).max(dim=0).indices


@dataclass(frozen=True)
class _Heart:
    """Shares of the heart's parts in each pixel, `(h, w)` each; the first four are disjoint."""

    left: Tensor
    muscle: Tensor
    right: Tensor
    rim: Tensor
    papillary: Tensor
    pad: Tensor

    @functools.cached_property
    def whole(self) -> Tensor:
        return self.left + self.muscle + self.right + self.rim


def _heart(patient: Patient, shape: Shape, slab: Slab, grid: Grid, y: Tensor, x: Tensor) -> _Heart:
    radius = torch.hypot(y[:, None], x[None, :])
    angle = torch.atan2(-y[:, None], x[None, :]) - np.pi - patient.rotation_rad
    heights = torch.tensor(slab.subslices())
    ridges = _ridges(patient, slab.z_mm, angle)
    cavity = _at(shape.cavity, angle) * ridges * _q(heights, shape.length_mm)
    outer = _at(shape.outer, angle) * _q(heights, shape.outer_length_mm)
    beyond = _at(shape.right, angle)
    reach = outer + beyond * _q(heights, shape.right_length_mm)
    # The free wall begins where the right cavity does, and ends with it.
    free = (beyond / anatomy.RV_WALL_MM).clamp(max=1) * _within_length(
        heights, shape.right_length_mm
    )
    rim = reach + anatomy.RV_WALL_MM * free
    inside = [
        (_within(border - radius, grid.pixel_mm) * _within_length(heights, length)).mean(dim=0)
        for border, length in (
            (cavity, shape.length_mm), (outer, shape.outer_length_mm),
            (reach, shape.outer_length_mm), (rim, shape.outer_length_mm),
        )
    ]  # fmt: skip
    left, wall, right, whole = inside
    patches = 0.5 + 0.5 * torch.sin(2 * angle + patient.seed % 628 / 100)
    pad = _within((rim - radius).mean(dim=0) + patient.torso.fat_pad_mm * patches, grid.pixel_mm)
    papillary = _papillary(shape, slab, grid, radius, angle)
    return _Heart(left, (wall - left).clamp(min=0), (right - wall).clamp(min=0),
                  (whole - torch.maximum(right, wall)).clamp(min=0),
                  torch.minimum(papillary, left), pad)  # fmt: skip


def _papillary(shape: Shape, slab: Slab, grid: Grid, radius: Tensor, angle: Tensor) -> Tensor:
    first, last = (share * shape.length_mm for share in anatomy.PAPILLARY_SPAN)
    low, high = slab.z_mm - slab.thick_mm / 2, slab.z_mm + slab.thick_mm / 2
    present = max(0.0, min(high, last) - max(low, first)) / slab.thick_mm
    share = torch.zeros_like(radius)
    if present == 0:
        return share
    for direction in anatomy.PAPILLARY_ANGLES:
        base = shape.cavity[round(direction / (2 * np.pi) * ANGLES) % ANGLES]
        away = anatomy.PAPILLARY_RADIUS * base * float(q(np.array(slab.z_mm / shape.length_mm)))
        # Distance to the muscle's axis, by the law of cosines.
        apart = radius.square() + away**2 - 2 * away * radius * torch.cos(angle - direction)
        share = share + _within(shape.papillary_mm - apart.clamp(min=0).sqrt(), grid.pixel_mm)
    return present * share.clamp(max=1)


def _ridges(patient: Patient, z_mm: float, angle: Tensor) -> Tensor:
    """Factor on the cavity's radius; the mean of its square over the angle is 1."""
    waves = torch.zeros_like(angle)
    for number, ridges in enumerate(TRABECULAE):
        start = (patient.seed >> (8 * number)) % 256 / 256 * 2 * np.pi
        waves += torch.sin(ridges * angle + start + 0.15 * z_mm * (number - 1))
    depth = TRABECULAR_SHARE / len(TRABECULAE) ** 0.5
    factor: Tensor = (1 + depth * waves).sqrt()
    return factor


def _at(table: anatomy.Table, angle: Tensor) -> Tensor:
    """Values of a periodic table at `angle`, linear between its nodes."""
    place = torch.remainder(angle * (ANGLES / (2 * np.pi)), ANGLES)
    below = place.long() % ANGLES
    values = torch.from_numpy(table).float()
    ahead = values.roll(-1)
    share = place - place.floor()
    return values[below] * (1 - share) + ahead[below] * share


def _within_length(heights: Tensor, length: float) -> Tensor:
    return ((heights >= 0) & (heights < length))[:, None, None].float()


def _q(heights: Tensor, length: float) -> Tensor:
    return (1 - (heights / length).square()).clamp(min=0).sqrt()[:, None, None]


def _within(depth: Tensor, pixel_mm: float) -> Tensor:
    """Share of a pixel that lies inside a border at `depth` below it."""
    return (depth / pixel_mm + 0.5).clamp(0, 1)


def _cover(shares: Tensor, tissue: int, share: Tensor) -> None:
    shares *= 1 - share
    shares[tissue] += share
