"""Bai's fully convolutional network: five resolutions, each brought back to the finest."""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.bilinear import Enlarge
from robustbench_med.networks.grid import check_images
from robustbench_med.networks.normalisation import check_norm, normalisation

TASK = "segmentation"
BOUNDED_BY = "ibp, crown"
Preset = Literal["full", "small"]
Norm = Literal["batch", "group"]


@dataclass(frozen=True)
class Size:
    """Channels and convolutions of each level, finest first; channels when joined; then dense."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    joined: int
    dense: int


SIZES: dict[Preset, Size] = {
    "full": Size((16, 32, 64, 128, 256), (2, 2, 3, 3, 3), joined=32, dense=64),
    "small": Size((8, 16, 32, 64), (2, 2, 2, 2), joined=16, dense=32),
}


def bai_fcn(
    *,
    preset: Preset = "full",
    in_channels: int = 1,
    classes: int = 4,
    norm: Norm = "batch",
) -> "BaiFcn":
    """Build Bai's network, which maps `(b, c, h, w)` to logits `(b, k, h, w)`.

    It has strided convolutions instead of poolings, and interpolates by transposed convolutions
    that are not trained, so that in evaluation it is convolutions and ReLU only.

    Args:
        preset: "full" is the paper's: 16 to 256 channels on five levels, 1,985,556 parameters for
            one channel in and four classes. "small" differs in depth and widths only: 8 to 64
            channels on four, 79,084.
        in_channels: Channels of the image.
        classes: Channels of the output.
        norm: "batch" is the paper's. "group" normalises each case by itself, as private training
            needs; it cannot be bounded.

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: Bai et al., J. Cardiovasc. Magn. Reson. 20:65 (2018), figure 2 and section on the
    network, arXiv:1710.09289; the sizes are those of the authors' code. Deviations: strided
    convolutions pad alike on all sides, so a value of level l lies on a pixel, `2 ** l` times its
    place, and interpolation starts there; weights start He-normal.
    """
    if preset not in SIZES:
        raise InputError(f"bai_fcn: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    check_norm("bai_fcn", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"bai_fcn: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return BaiFcn(SIZES[preset], in_channels, classes, norm)


class BaiFcn(nn.Module):
    """See `bai_fcn`, which builds it."""

    def __init__(self, size: Size, in_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.multiple = 2 ** (len(size.widths) - 1)
        self.levels = nn.ModuleList(
            _level(channels, blocks, norm, stride=1 if level == 0 else 2)
            for level, (channels, blocks) in enumerate(
                zip(itertools.pairwise((in_channels, *size.widths)), size.blocks, strict=True)
            )
        )
        self.reduce = nn.ModuleList(_unit(width, size.joined, norm, 1) for width in size.widths)
        self.enlarge = nn.ModuleList(
            Enlarge(2**level, size.joined) for level in range(1, len(size.widths))
        )
        self.head = nn.Sequential(
            _unit(size.joined * len(size.widths), size.dense, norm, 1),
            _unit(size.dense, size.dense, norm, 1),
            nn.Conv2d(size.dense, classes, kernel_size=1),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`.

        Raises:
            InputError: If height or width is no multiple of 2 to the number of strides, or the
                images have not the channels it was built for.
        """
        check_images("bai_fcn", image, self.in_channels, self.multiple)
        joined, maps = [], image
        for convolve, reduce in zip(self.levels, self.reduce, strict=True):
            maps = convolve(maps)
            joined.append(reduce(maps))
        for level, enlarge in enumerate(self.enlarge, start=1):
            joined[level] = enlarge(joined[level])
        logits: Tensor = self.head(torch.cat(joined, dim=1))
        return logits


def _level(channels: tuple[int, int], blocks: int, norm: Norm, stride: int) -> nn.Sequential:
    before, after = channels
    rest = (_unit(after, after, norm, 3) for _ in range(blocks - 1))
    return nn.Sequential(_unit(before, after, norm, 3, stride), *rest)


def _unit(before: int, after: int, norm: Norm, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        *normalisation(norm, after),
        nn.ReLU(),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
