"""Copies of known origin: what must be found, made from the user's own images."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from robustbench_med.overlap.picture import Floats

Change = Callable[[Floats], Floats]


def recompressed(plane: Floats) -> Floats:
    """Store a plane `(h, w)` as 8-bit JPEG at quality 50 and read it back, in its own units."""
    low, high = float(plane.min()), float(plane.max())
    scale = (high - low) or 1.0
    file = io.BytesIO()
    bytes_ = np.rint((plane - low) / scale * 255).astype(np.uint8)
    Image.fromarray(bytes_).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file), dtype=np.float64) / 255 * scale + low


def rescaled(plane: Floats) -> Floats:
    """Resize to 80% and back."""
    small = [max(1, round(0.8 * length)) for length in plane.shape]
    return _resized(_resized(plane, small), list(plane.shape))


def cropped(plane: Floats) -> Floats:
    """Cut 2% off every edge and resize what is left to the old size."""
    rows, columns = (max(1, round(0.02 * length)) for length in plane.shape)
    return _resized(plane[rows:-rows, columns:-columns], list(plane.shape))


def brightened(plane: Floats) -> Floats:
    """Raise by 10%; what leaves the range is clipped."""
    low, high = plane.min(), plane.max()
    return np.asarray(np.minimum(low + 1.1 * (plane - low), high))


def _resized(plane: Floats, size: list[int]) -> Floats:
    image = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
    made = F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(made[0, 0].numpy())


CHANGES: dict[str, Change] = {
    "unchanged": lambda plane: plane,
    "rotated by 90 degrees": lambda plane: np.rot90(plane, 1),
    "rotated by 180 degrees": lambda plane: np.rot90(plane, 2),
    "rotated by 270 degrees": lambda plane: np.rot90(plane, 3),
    "mirrored": lambda plane: plane[:, ::-1],
    "JPEG at quality 50": recompressed,
    "resized to 80% and back": rescaled,
    "10% brighter": brightened,
    "10% darker": lambda plane: plane.min() + 0.9 * (plane - plane.min()),
    "2% cropped from every edge": cropped,
    "rotated, cropped, darker and JPEG": lambda plane: recompressed(
        np.rot90(cropped(0.9 * plane), 1)
    ),
}
