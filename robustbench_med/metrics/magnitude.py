"""Magnitudes of images, and the range of their intensities."""

from math import inf

import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.settings import is_number


def magnitude(image: Tensor) -> Tensor:
    """Magnitude of a complex image, and any other image as it is; float64.

    Args:
        image: `(b, *s)`; `(b, 2, h, w)`, or a series of such, `(b, 2, t, h, w)`, is taken for a
            real and an imaginary part.

    Returns:
        `(b, h, w)` or `(b, t, h, w)` of a complex image, else the shape of `image`.
    """
    if image.ndim in (4, 5) and image.shape[1] == 2:
        return torch.hypot(*image.double().unbind(dim=1))
    return image.double()


def require_range(who: str, data_range: object) -> None:
    """Refuse a range of intensities that is none; None stands for each target's maximum.

    Raises:
        InputError: Naming the metric `who` and what it got.
    """
    if data_range is not None and not (is_number(data_range) and 0 < data_range < inf):
        raise InputError(f"{who}: data_range must be finite and above 0, got {data_range!r}")


def span(target: Tensor, data_range: float | None) -> Tensor:
    """Range of each case's intensities, `(b,)`; NaN where it is the maximum and not above 0."""
    if data_range is not None:
        return torch.full((len(target),), data_range, dtype=target.dtype, device=target.device)
    highest = target.flatten(start_dim=1).amax(dim=1)
    return highest.where(highest > 0, torch.nan)
