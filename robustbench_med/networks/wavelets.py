"""Orthonormal Daubechies wavelets on periodic images."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

MOMENTS = 4
LEVELS = 4
SHORTEST = 2 * MOMENTS


@lru_cache(maxsize=4)
def scaling_filter(moments: int = MOMENTS) -> tuple[float, ...]:
    """Taps of Daubechies' filter of least phase, `2 moments` of them; the sum is sqrt(2).

    It is orthonormal to its own shifts by even numbers, and `moments` moments of its wavelet are
    0. Both hold if its squared magnitude at frequency `f` is `2 cos^2n(f/2) P(sin^2(f/2))`, where
    `P(y)` is the sum over `k < n` of `binomial(n - 1 + k, k) y^k`. With `y = (2 - z - 1/z) / 4`
    each root of `P` gives two, of which the one within the unit circle is taken.

    Source: Daubechies, Comm. Pure Appl. Math. 41 (1988), section 4.
    """
    power = [math.comb(moments - 1 + k, k) for k in range(moments)]
    half = 1 - 2 * np.roots(power[::-1])
    outside = half + np.sqrt(half**2 - 1 + 0j)
    inside = np.where(np.abs(outside) < 1, outside, 1 / outside)
    taps = np.poly(np.concatenate([-np.ones(moments), inside])).real
    return tuple((taps * (math.sqrt(2) / taps.sum())).tolist())


def levels_of(height: int, width: int) -> int:
    """How often an image can be halved: both sides even and no shorter than the filter; up to 4."""
    levels = 0
    while levels < LEVELS and min(height, width) >= SHORTEST and height % 2 == width % 2 == 0:
        height, width, levels = height // 2, width // 2, levels + 1
    return levels


def analyse(image: Tensor, levels: int) -> Tensor:
    """Transform images `(..., h, w)` to coefficients of the same shape, keeping norms.

    In the corner at 0, 0, a side `2^levels` times shorter, stand the approximations; details of
    each level lie around those of the coarser ones.
    """
    if levels == 0:
        return image
    rows, columns = (_level(length, image.dtype, image.device) for length in image.shape[-2:])
    whole = rows @ image @ columns.mT
    height, width = (length // 2 for length in image.shape[-2:])
    corner = analyse(whole[..., :height, :width], levels - 1)
    return _framed(corner, whole)


def synthesise(coefficients: Tensor, levels: int) -> Tensor:
    """Transform coefficients to images: the inverse, and the adjoint, of `analyse`."""
    if levels == 0:
        return coefficients
    height, width = (length // 2 for length in coefficients.shape[-2:])
    corner = synthesise(coefficients[..., :height, :width], levels - 1)
    whole = _framed(corner, coefficients)
    rows, columns = (_level(length, whole.dtype, whole.device) for length in whole.shape[-2:])
    return rows.mT @ whole @ columns


def _framed(corner: Tensor, whole: Tensor) -> Tensor:
    """`whole` with its corner at 0, 0 replaced."""
    height, width = corner.shape[-2:]
    upper = torch.cat([corner, whole[..., :height, width:]], dim=-1)
    return torch.cat([upper, whole[..., height:, :]], dim=-2)


@lru_cache(maxsize=64)
def _level(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One level along one axis, an orthonormal matrix `(n, n)`: low-pass rows, then high-pass."""
    taps = np.array(scaling_filter())
    places = np.arange(len(taps))
    matrix = np.zeros((length, length))
    for row in range(length // 2):
        # Added, not set: where the filter is as long as the axis, it may wrap onto itself.
        np.add.at(matrix[row], (2 * row + places) % length, taps)
        wavelet = (-1.0) ** places * taps[::-1]
        np.add.at(matrix[length // 2 + row], (2 * row + places) % length, wavelet)
    # Kept for later calls, which may want derivatives where this one does not.
    with torch.inference_mode(mode=False):
        return torch.from_numpy(matrix).to(device=device, dtype=dtype)
