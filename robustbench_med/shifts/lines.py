"""Phase-encode lines of a scan: which comes when, and a batch with some of them changed."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.shifts.requirements import (
    lines_of,
    require_kspace,
    require_magnitudes,
    require_plane,
)
from robustbench_med.shifts.severity import Levels, require_levels

Along = Literal["rows", "columns"]
"""What is a phase-encode line of an image; of k-space it is always a row."""


def require_along(who: str, along: object) -> None:
    """Refuse what is no `Along`.

    Raises:
        InputError: Naming the shift and what it got.
    """
    if along not in get_args(Along):
        raise InputError(f"{who}: lines must be rows or columns, got {along!r}")


def levels_up_to(who: str, levels: Levels, most: float = inf) -> tuple[float, ...]:
    """Return `Levels` as a tuple; refuse what is none, or goes above `most`.

    Raises:
        InputError: Naming the setting and what it got.
    """
    require_levels(who, levels)
    if levels[-1] > most:
        raise InputError(f"{who} must be at most {most:g}, got {levels[-1]:g}")
    return tuple(levels)


def as_rows(image: Tensor, along: Along) -> Tensor:
    """Turn the last two axes so that lines are rows; doing it again undoes it."""
    return image if along == "rows" else image.transpose(-1, -2)


def per_case(values: Tensor, image: Tensor) -> Tensor:
    """Bring one number a case, `(b,)`, to the device and axes of `image`, `(b, 1, ..., 1)`."""
    return values.to(image).view(-1, *[1] * (image.ndim - 1))


def order(acquired: Tensor) -> Tensor:
    """When each line comes, `(..., h)`: 0 for the acquired one nearest to the middle row.

    Lines are acquired from the first row to the last. What was not acquired has the number of the
    acquired line before it.

    Args:
        acquired: `(..., h)`, bool.
    """
    height = acquired.shape[-1]
    distance = (torch.arange(height, device=acquired.device) - height // 2).abs()
    middle = distance.where(acquired, height).argmin(dim=-1, keepdim=True)
    rank = acquired.cumsum(dim=-1)
    return rank - rank.gather(-1, middle)


def weigh(who: str, batch: Batch, along: Along, weights: Callable[[Tensor], Tensor]) -> Batch:
    """Multiply each phase-encode line by a weight.

    k-space cases, which have a `mask` in the context: exact, and samples that were not acquired
    stay 0. Magnitude images: the lines of their own Fourier transform are weighed and the
    magnitude is taken again, an approximation, because the phase that the scanner measured is
    gone. All channels, and all slices and phases that share a mask, are weighed alike.

    Args:
        who: The shift's name.
        batch: Magnitude images or k-space.
        along: What is a line of an image.
        weights: From which lines were acquired, `(b, planes, h)`, bool, to the weight of each,
            `(b, planes, h)`; `planes` is 1 for images.

    Raises:
        CaseError: If an image has negative intensities, or the mask does not fit.
        UnsupportedError: If there are fewer than two spatial axes.
    """
    image = require_plane(who, batch)
    if "mask" in batch.context:
        acquired = require_kspace(who, batch, "")
        weight = weights(lines_of(acquired)).to(image)
        return replace(batch, image=image * weight.view(*acquired.shape[:-1], 1))
    require_magnitudes(who, batch)
    image = as_rows(image, along)
    every = torch.ones(len(batch), 1, image.shape[-2], dtype=torch.bool, device=image.device)
    weight = weights(every).to(image).view(-1, *[1] * (image.ndim - 3), image.shape[-2], 1)
    spectrum = torch.fft.fft(image, dim=-2) * torch.fft.ifftshift(weight, dim=-2)
    weighed = torch.fft.ifft(spectrum, dim=-2).abs()
    return replace(batch, image=as_rows(weighed, along))
