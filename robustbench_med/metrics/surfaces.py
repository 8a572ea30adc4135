"""Distances between the surface of a predicted region and that of the true one.

The surface of a region is made of its voxels with a face neighbour outside the region; outside the
image counts as outside. A distance is the Euclidean one from a voxel of one surface, centre to
centre, to the nearest of the other.
"""

from collections.abc import Callable, Mapping
from math import nan
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.context import spacings
from robustbench_med.metrics.regions import regions

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Unit = Literal["mm", "voxels"]


class Gaps(NamedTuple):
    """Distances between two surfaces of a case, both with a voxel at least.

    Attributes:
        predicted: `(n,)`, from each voxel of the predicted surface to the true one.
        true: `(m,)`, from each voxel of the true surface to the predicted one.
    """

    predicted: Floats
    true: Floats


def require_unit(who: str, unit: object) -> None:
    """Refuse a unit of length that is none.

    Raises:
        InputError: Naming the metric and what it got.
    """
    if unit not in get_args(Unit):
        raise InputError(f"{who}: unit must be mm or voxels, got {unit!r}")


def lengths(
    who: str, target: Tensor, context: Mapping[str, Tensor] | None, unit: Unit = "mm"
) -> Floats:
    """Extent of each case's voxels, `(b, axes)`, in `unit`; NaN where one is no length.

    Raises:
        CaseError: If mm are asked for and `spacing` is missing, or not of three axes.
    """
    axes = target.ndim - 1
    if unit == "voxels":
        return np.ones((len(target), axes))
    found: Floats = spacings(who, context)[:, -axes:].cpu().numpy()
    return found


def masks(who: str, output: Tensor, target: Tensor, label: int) -> list[tuple[Flags, Flags]]:
    """Predicted and true region of class `label`, `(*s)` each, case by case.

    Raises:
        InputError: If the shapes are no segmentation's of two or three axes, or have no such
            class.
    """
    pair = regions(who, output, target, label)
    if target.ndim not in (3, 4):
        raise InputError(
            f"{who}: needs images of two or three axes, (y, x) or (z, y, x), "
            f"got {tuple(target.shape[1:])}"
        )
    predicted, true = (region.reshape(target.shape).cpu().numpy() for region in pair)
    return list(zip(predicted, true, strict=True))


def score_surfaces(
    pairs: list[tuple[Flags, Flags]],
    extents: Floats,
    score: Callable[[Gaps], float],
    penalty: Callable[[float], float],
) -> dict[str, Tensor]:
    """Score each case whose two surfaces exist, and penalise each where one alone does.

    Args:
        pairs: From `masks`.
        extents: From `lengths`.
        score: Value of a case with both surfaces.
        penalty: Value of a case with one, from the length of the image's diagonal.

    Returns:
        `value`, and `penalised`, 1 where one region alone is empty, else 0; both `(b,)`, NaN
        where both are empty or a voxel's extent is no length.
    """
    found = []
    for (predicted, true), extent in zip(pairs, extents, strict=True):
        there = int(predicted.any()) + int(true.any())
        if there == 0 or np.isnan(extent).any():
            found.append((nan, nan))
        elif there == 1:
            found.append((penalty(float(np.linalg.norm(extent * predicted.shape))), 1.0))
        else:
            found.append((score(between(predicted, true, extent)), 0.0))
    value, penalised = torch.tensor(found, dtype=torch.float64).T
    return {"value": value, "penalised": penalised}


def between(predicted: Flags, true: Flags, extent: Floats) -> Gaps:
    """Distances between the surfaces of two regions, neither of them empty.

    Args:
        predicted: `(*s)`.
        true: `(*s)`.
        extent: `(axes,)`, of a voxel.
    """
    # A region cut out with its box keeps its surface: beyond the box lies none of it.
    (box,) = ndimage.find_objects((predicted | true).astype(np.uint8))
    first, second = _surface(predicted[box]), _surface(true[box])
    return Gaps(_to_nearest(second, extent)[first], _to_nearest(first, extent)[second])


def _surface(region: Flags) -> Flags:
    edge: Flags = region & ~ndimage.binary_erosion(region)
    return edge


def _to_nearest(surface: Flags, extent: Floats) -> Floats:
    distance: Any = ndimage.distance_transform_edt(~surface, sampling=extent)
    return np.asarray(distance, dtype=np.float64)
