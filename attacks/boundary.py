"""Probability far from where a structure ends, as an attack raises it."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from robustbench_med.attacks.objective import class_index
from robustbench_med.attacks.pixelwise import require_segmentation
from robustbench_med.attacks.structures import Label, require_label, spacing_of
from robustbench_med.cases import Batch, Task


@dataclass(frozen=True)
class Boundary:
    """The mean over voxels of a class's probability times the distance to the true structure.

    The distance is signed, negative inside, in mm where the context has `spacing` and else in
    voxels: raising it empties the structure from its core and fills the image far away, which is
    what surface distances punish and Dice does not. Along the last three spatial axes at most, so
    the phases of a patient stay apart. 1 everywhere where the truth has no such structure, -1
    where it has nothing else.

    Attributes:
        label: Name or index of the structure's class.

    Source: Kervadec et al., MIDL 2019, arXiv:1812.07032, recalled. Deviation: the mean over voxels,
    not the sum.
    """

    label: Label

    def __post_init__(self) -> None:
        require_label("boundary", self.label)

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("boundary", output, batch, task)
        label = class_index(self.label, task)
        share = output.softmax(dim=1)[:, label]
        distance = signed_distances(batch, label).to(share)
        return (share * distance).flatten(start_dim=1).mean(dim=1)


def signed_distances(batch: Batch, label: int) -> Tensor:
    """Distance of each voxel to the other side of the true structure's edge, negative inside.

    Returns:
        `(b, *s)`, float32, on the CPU.
    """
    regions = (batch.target == label).cpu().numpy()
    axes = min(regions.ndim - 1, 3)
    if "spacing" in batch.context:
        spacing = spacing_of("boundary", batch)[:, 3 - axes :].tolist()
    else:
        spacing = [[1.0] * axes] * len(batch)
    maps = [
        _of_region(region.tobytes(), region.shape, tuple(extent))
        for region, extent in zip(regions, spacing, strict=True)
    ]
    return torch.from_numpy(np.stack(maps))


# A search asks for the same maps at every step.
@lru_cache(maxsize=64)
def _of_region(
    held: bytes, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    blocks = np.frombuffer(held, dtype=bool).reshape(-1, *shape[len(shape) - len(spacing) :])
    distances = [_of_block(block, spacing) for block in blocks]
    return np.stack(distances).reshape(shape).astype(np.float32)


def _of_block(
    region: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], spacing: tuple[float, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if not region.any() or region.all():
        return np.full(region.shape, math.copysign(1.0, 0.5 - region.any()))
    outside = ndimage.distance_transform_edt(~region, sampling=spacing)
    inside = ndimage.distance_transform_edt(region, sampling=spacing)
    difference: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = outside - inside
    return difference
