"""Thickness and motion of the left ventricle's wall, by slice and sector."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

LV, MYOCARDIUM, RV = 1, 2, 3
SECTORS = 6
THICK_MM = 15.0
CLOSED_MM = 1.0


def walls(masks: Labels, spacing: Floats) -> tuple[float, float, float]:
    """Thickest wall, number of thick segments, range of motion; see `measure`.

    Args:
        masks: `(2, z, y, x)`.
        spacing: `(3,)`, in mm.

    Returns:
        mm, a count, and a difference of fractional shortenings; NaN where no slice counts.
    """
    cavity = (masks[0] == LV).sum(axis=(1, 2))
    if not cavity.any():
        return (float("nan"),) * 3
    endo, epi = np.sqrt(2 * _sector_areas(masks, spacing) / (2 * np.pi / SECTORS))
    wall = epi - endo
    closed = (wall >= CLOSED_MM).all(axis=2)
    counts = closed[0] & _basal(cavity)
    if not counts.any():
        return (float("nan"),) * 3
    segments = wall[0, counts]
    thickest, thick = float(segments.max()), float((segments > THICK_MM).sum())
    moving = counts & closed[1] & (endo[1] > 0).any(axis=1) & (endo[0] > 0).all(axis=1)
    if not moving.any():
        return thickest, thick, float("nan")
    shortening = (1 - endo[1, moving] / endo[0, moving]).mean(axis=0)
    return thickest, thick, float(shortening.max() - shortening.min())


def _basal(cavity: Labels) -> Flags:
    """Slices whose middle lies in the basal two thirds of the cavity, `(z,)`.

    Args:
        cavity: `(z,)`, pixels of the cavity in each slice; somewhere above 0.
    """
    inside = np.flatnonzero(cavity)
    first, last = inside[0], inside[-1]
    place = np.arange(len(cavity))
    middle = float(np.average(place[first : last + 1], weights=cavity[first : last + 1]))
    from_base = place - first if middle <= (first + last) / 2 + 1e-9 else last - place
    basal: Flags = (from_base >= 0) & ((from_base + 0.5) / (last - first + 1) <= 2 / 3)
    return basal & (cavity > 0)


def _sector_areas(masks: Labels, spacing: Floats) -> Floats:
    """Area in mm^2 within the endocardium and within the epicardium, `(2, phase, z, sector)`."""
    slices = masks.shape[1]
    z, y, x = np.nonzero(np.isin(masks, (LV, MYOCARDIUM)).any(axis=0))
    centre = _centres(masks[0], spacing)
    offset = np.stack([y * spacing[1], x * spacing[2]], axis=1) - centre[z]
    share = _sector_shares(offset, _first_direction(masks[0], spacing), _pixel(spacing))
    areas = np.zeros((2, 2, slices, SECTORS))
    for phase in (0, 1):
        label = masks[phase, z, y, x]
        for tissue, inside in enumerate((label == LV, np.isin(label, (LV, MYOCARDIUM)))):
            np.add.at(areas[tissue, phase], z[inside], share[inside])
    return areas * _pixel(spacing) ** 2


def _sector_shares(offset: Floats, direction: float, width: float) -> Floats:
    """Share of a pixel that lies in each sector, `(n, sector)`; each row sums to 1.

    A pixel at a distance d inside a border counts `1/2 + d / width`, kept to [0, 1]: an area
    that changes smoothly as the border passes, and alike from either side.
    """
    half = np.pi / SECTORS
    middles = direction + 2 * half * np.arange(SECTORS)
    along = offset @ np.stack([np.sin(middles), np.cos(middles)])
    across = offset @ np.stack([np.cos(middles), -np.sin(middles)])
    depth = along * np.sin(half) - np.abs(across) * np.cos(half)
    share = np.clip(0.5 + depth / width, 0.0, 1.0)
    shares: Floats = share / share.sum(axis=1, keepdims=True)
    return shares


def _centres(mask: Labels, spacing: Floats) -> Floats:
    """Centroid (y, x) in mm of each slice's LV cavity; of the whole one where it has none."""
    z, y, x = np.nonzero(mask == LV)
    place = np.stack([y * spacing[1], x * spacing[2]], axis=1)
    centre = np.tile(place.mean(axis=0), (len(mask), 1))
    number = np.bincount(z, minlength=len(mask))[:, None]
    total = np.zeros_like(centre)
    np.add.at(total, z, place)
    np.divide(total, number, out=centre, where=number > 0)
    return centre


def _first_direction(mask: Labels, spacing: Floats) -> float:
    """Angle from +x towards +y, of the RV's centroid seen from that of the LV."""
    centroids: list[Floats] = [
        np.argwhere(mask == label)[:, 1:].mean(axis=0) * spacing[1:]
        for label in (LV, RV)
        if (mask == label).any()
    ]
    if len(centroids) < 2:
        return float(np.pi)
    y, x = centroids[1] - centroids[0]
    return float(np.arctan2(y, x))


def _pixel(spacing: Floats) -> float:
    """Side in mm of the square that has a pixel's area."""
    return float(np.sqrt(spacing[1] * spacing[2]))
