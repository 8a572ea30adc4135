"""A case as its copies are looked for: one grey plane, and a small square picture of it."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from robustbench_med.cases import Case
from robustbench_med.errors import InputError

Floats = NDArray[np.float64]
SIDE = 64
TURNS = (
    "as it is", "mirrored left to right", "mirrored top to bottom", "rotated by 180 degrees",
    "mirrored on the diagonal", "rotated by 90 degrees", "rotated by 270 degrees",
    "mirrored on the other diagonal",
)  # fmt: skip
"""The rotations and reflections of a square: bit 4 transposes, then 2 flips rows, 1 columns."""


def plane_of(case: Case, *, middle: bool = False) -> Floats:
    """Return the case's grey plane: the mean of channels, slices and phases.

    A case in k-space is looked at through its target: two scans of one heart may be sampled
    along different lines, and their truth still is the same. Its channels are one complex image.

    Args:
        case: Two spatial axes or more; the last two are the plane.
        middle: Take the middle slice of each leading axis, which keeps noise and texture.

    Returns:
        `(h, w)`; what is not finite counts as 0.

    Raises:
        InputError: If the image has fewer than two spatial axes.
    """
    measured = _is_kspace(case.context, case.target)
    image = (case.target if measured else case.image).detach().cpu().to(torch.float64)
    if image.ndim < 3:
        raise InputError(
            f"case {case.case_id!r}: copies are looked for in planes, so the image must be "
            f"(c, ..., h, w), got {tuple(image.shape)}"
        )
    image = torch.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    grey = image.square().sum(dim=0).sqrt() if measured else image.mean(dim=0)
    while grey.ndim > 2:
        grey = grey[grey.shape[0] // 2] if middle else grey.mean(dim=0)
    return np.asarray(grey.numpy(), dtype=np.float64)


def picture_of(plane: Floats) -> Floats:
    """Resample a plane `(h, w)` to `(64, 64)`, whatever its aspect.

    By exact area where it is larger, linearly where it is smaller. Both commute with the turns
    of the plane, and so do the pictures.
    """
    rows, columns = (_resampler(length) for length in plane.shape)
    return np.asarray((columns @ (rows @ plane).T).T)


@lru_cache(maxsize=256)
def _resampler(length: int) -> csr_array:
    """`(64, length)`; rows sum to 1."""
    if length < SIDE:
        place = np.clip((np.arange(SIDE) + 0.5) * length / SIDE - 0.5, 0, length - 1)
        return csr_array(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(length)[None])))
    edges = np.arange(SIDE + 1) * length / SIDE
    pixel = np.arange(length)
    upper = np.minimum(edges[1:, None], pixel[None] + 1)
    lower = np.maximum(edges[:-1, None], pixel[None])
    return csr_array(np.maximum(0, upper - lower) * SIDE / length)


def turned(picture: Floats, turn: int) -> Floats:
    """Return a square picture `(n, n)` under one of the eight `TURNS`."""
    moved = picture.T if turn & 4 else picture
    moved = moved[::-1] if turn & 2 else moved
    return moved[:, ::-1] if turn & 1 else moved


def _is_kspace(context: Mapping[str, Tensor], target: Tensor) -> bool:
    return "mask" in context and target.is_floating_point() and target.ndim >= 3
