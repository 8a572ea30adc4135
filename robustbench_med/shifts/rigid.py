"""Rigid moves in the plane of a slice: a phase in k-space, and a resampled image."""

from math import pi

import torch
from torch import Tensor


def translation(offset_mm: Tensor, pixel_mm: Tensor, width: int) -> Tensor:
    """Phase of each k-space sample if the object lies elsewhere while its row is acquired.

    Args:
        offset_mm: `(n, h, 2)`: along rows and columns, for each row of k-space.
        pixel_mm: `(n, 2)`: distance of rows and of columns in the image.
        width: Samples in a row.

    Returns:
        `(n, h, width)`, complex128, of magnitude 1.

    Source: the shift theorem of the Fourier transform.
    """
    height = offset_mm.shape[1]
    rows = (torch.arange(height, dtype=torch.float64) - height // 2) / height
    columns = (torch.arange(width, dtype=torch.float64) - width // 2) / width
    pixels = offset_mm.double() / pixel_mm.unsqueeze(1)
    turns = (pixels[..., 0] * rows).unsqueeze(2) + pixels[..., 1:] * columns
    return torch.polar(torch.ones_like(turns), -2 * pi * turns)


def rotate(image: Tensor, angle: Tensor, pixel_mm: Tensor) -> Tensor:
    """Turn the last two axes of each case about their middle, `(b, c, *s)`.

    Three shears, each a Fourier shift of every row or column: exact for band-limited images,
    where interpolation between voxels would blur, and wrapping around at the edges.

    Args:
        image: `(b, c, *s)`.
        angle: `(b,)`, in radians, from columns towards rows; small: a shear by half of it wraps.
        pixel_mm: `(b, 2)`: distance of rows and of columns.

    Source: Unser, Thevenaz and Yaroslavsky, IEEE TIP 4 (1995).
    """
    aspect = pixel_mm[:, 0] / pixel_mm[:, 1]
    slant, rise = -(angle / 2).tan() * aspect, angle.sin() / aspect
    turned = _shear(image, slant)
    turned = _shear(turned.transpose(-1, -2), rise).transpose(-1, -2)
    return _shear(turned, slant)


def _shear(image: Tensor, slope: Tensor) -> Tensor:
    """Move each row along itself by `slope`, `(b,)`, times its distance from the middle row."""
    height, width = image.shape[-2:]
    distance = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    pixels = slope.double().unsqueeze(1) * distance
    turns = pixels.unsqueeze(2) * torch.fft.rfftfreq(width, dtype=torch.float64)
    phase = torch.polar(torch.ones_like(turns), -2 * pi * turns)
    phase = phase.view(len(image), *[1] * (image.ndim - 3), height, -1)
    moved: Tensor = torch.fft.irfft(torch.fft.rfft(image) * precise(phase, image), n=width)
    return moved


def precise(phase: Tensor, image: Tensor) -> Tensor:
    """Bring a phase to the image's device and precision."""
    precision = torch.complex128 if image.dtype == torch.float64 else torch.complex64
    return phase.to(image.device, precision)
