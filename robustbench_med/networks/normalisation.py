"""The choice of a normalisation, shared by the networks that leave one."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from robustbench_med.errors import InputError

Norm = Literal["none", "batch", "group"]
LARGEST_GROUP = 16


def normalisation(norm: Norm, channels: int, axes: int = 2) -> list[nn.Module]:
    """Return what follows a convolution: a layer in a list, or an empty list for "none".

    Args:
        norm: "batch" normalises each channel over the cases of a batch, and by running
            statistics in evaluation. "group" normalises each case by itself, over its grid and
            as many channels as divide all evenly, 16 at most.
        channels: Of the convolution's output.
        axes: Spatial axes, 2 or 3.

    Source: Ioffe and Szegedy, ICML 2015, arXiv:1502.03167; Wu and He, ECCV 2018,
    arXiv:1803.08494.
    """
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels) if axes == 2 else nn.BatchNorm3d(channels)]
    together = next(size for size in range(LARGEST_GROUP, 0, -1) if channels % size == 0)
    return [nn.GroupNorm(channels // together, channels)]


def check_norm(network: str, norm: str, known: Sequence[str]) -> None:
    """Refuse a normalisation that a network does not offer.

    Raises:
        InputError: If `norm` is not in `known`.
    """
    if norm not in known:
        raise InputError(f"{network}: norm must be one of {', '.join(known)}, got {norm!r}")
