"""Receive coils: their sensitivities, and the measurement that they make."""

import math

import numpy as np
import torch
from scipy.special import ellipe, ellipk
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import fft2c, ifft2c

RING_MM = 200.0
LARGEST_LOOP_MM = 75.0
Field = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def sensitivities(
    coils: int,
    shape: tuple[int, int],
    pixel_mm: float,
    centre_mm: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Sensitivities of circular loops that stand evenly on a ring around the body.

    A loop's sensitivity is its magnetic field at unit current, `B_x - i B_y` (the main field is
    along z, the slice through the middle of the loops). The ring has a radius of 200 mm, or 1.1
    times the distance of the farthest pixel where that is more; neighbouring loops touch, but no
    loop has a radius above 75 mm. No coupling between loops, no conductive tissue.

    Args:
        coils: At least 1.
        shape: Height and width, in pixels.
        pixel_mm: Edge of a pixel.
        centre_mm: Where the pixel at `(h // 2, w // 2)` lies from the ring's centre: y, x.

    Returns:
        `(coils, h, w)`, complex64, smooth; in each pixel the squared magnitudes sum to 1.

    Raises:
        InputError: If a number is out of range.

    Source: Field of a loop: Jackson, Classical Electrodynamics, section 5.5, in the form of
    Simpson et al., NASA/TM-2013-217919; reciprocity: Hoult and Richards, JMR 24 (1976).
    """
    height, width = shape
    if coils < 1 or height < 1 or width < 1:
        raise InputError(f"coils: expected at least 1 coil and 1 pixel, got {coils} and {shape}")
    if not (math.isfinite(pixel_mm) and pixel_mm > 0 and all(map(math.isfinite, centre_mm))):
        raise InputError(
            "coils: pixel_mm must be finite and above 0, centre_mm finite, "
            f"got {pixel_mm} and {centre_mm}"
        )
    y = ((np.arange(height) - height // 2) * pixel_mm + centre_mm[0])[:, None]
    x = ((np.arange(width) - width // 2) * pixel_mm + centre_mm[1])[None, :]
    ring = max(RING_MM, 1.1 * float(np.hypot(y, x).max()))
    loop = min(LARGEST_LOOP_MM, ring * math.sin(math.pi / max(coils, 2)))
    angle = (2 * math.pi * np.arange(coils) / coils)[:, None, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    along, across = loop_field(loop, ring - (x * cosine + y * sine), np.abs(y * cosine - x * sine))
    across = across * np.sign(y * cosine - x * sine)
    # The loop's axis points to the ring's centre, (-cos, -sin); its tangent is (-sin, cos).
    field = -(along * cosine + across * sine) + 1j * (along * sine - across * cosine)
    total = np.sqrt((np.abs(field) ** 2).sum(axis=0, keepdims=True))
    return torch.from_numpy((field / total).astype(np.complex64))


def loop_field(radius: float, axial: Field, radial: Field) -> tuple[Field, Field]:
    """Magnetic field of a circular loop, up to the factor `mu_0 I / (2 pi)`.

    Args:
        radius: Of the loop.
        axial: Distance from the loop's plane, along its axis; in the radius' unit.
        radial: Distance from the axis, at least 0, of the same shape.

    Returns:
        Components along the axis and away from it; infinite or NaN on the wire.
    """
    # Away from the axis the field grows linearly, but its formula is 0 / 0 on it.
    away = np.maximum(radial, 1e-3 * radius)
    outer = (radius + away) ** 2 + axial**2
    inner = (radius - away) ** 2 + axial**2
    first, second = ellipk(4 * radius * away / outer), ellipe(4 * radius * away / outer)
    square = away**2 + axial**2
    along = (first + (radius**2 - square) / inner * second) / np.sqrt(outer)
    across = axial / away * ((radius**2 + square) / inner * second - first) / np.sqrt(outer)
    return along, across * (radial / away)


def forward(image: Tensor, maps: Tensor | None, mask: Tensor) -> Tensor:
    """Measure an image: weight it by each coil, transform it, keep the sampled k-space.

    Args:
        image: Complex, `(b, h, w)`.
        maps: Sensitivities, complex, `(b, c, h, w)`; None for one coil of sensitivity 1.
        mask: Real, `(b, 1, h, w)`: 1 where measured, 0 elsewhere.

    Returns:
        k-space, complex, `(b, c, h, w)`.
    """
    seen = image[:, None] if maps is None else maps * image[:, None]
    return mask * fft2c(seen)


def adjoint(kspace: Tensor, maps: Tensor | None, mask: Tensor) -> Tensor:
    """Bring k-space `(b, c, h, w)` back to an image `(b, h, w)`: the adjoint of `forward`.

    For measured k-space it is the zero-filled image.
    """
    seen = ifft2c(mask * kspace)
    return seen[:, 0] if maps is None else (maps.conj() * seen).sum(dim=1)
