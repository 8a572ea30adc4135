"""U-Net: a contracting and an expanding path, joined level by level."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import Norm, check_norm, normalisation

TASK = "segmentation"
BOUNDED_BY = "ibp, crown_ibp, crown"
Preset = Literal["full", "small"]
WIDTHS: dict[Preset, tuple[int, ...]] = {
    "full": (64, 128, 256, 512, 1024),
    "small": (16, 32, 64, 128),
}


def unet(
    *,
    preset: Preset = "full",
    in_channels: int = 1,
    classes: int = 2,
    norm: Norm = "none",
) -> "UNet":
    """Build a U-Net that maps `(b, c, h, w)` to logits `(b, k, h, w)`.

    Args:
        preset: "full" is the paper's widths, 64 to 1024: 31,030,658 parameters for one
            channel in and two classes out. "small" differs in widths and depth only: 16 to
            128, less than half a million.
        in_channels: Channels of the image.
        classes: Channels of the output.
        norm: "none" is the paper's. "batch" or "group" follows each 3 x 3 convolution, which
            then has no bias; private training needs "group".

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: Ronneberger et al., MICCAI 2015, figure 1 and section 3, arXiv:1505.04597.
    Deviations: convolutions pad with zeros instead of shrinking the image, so the output
    lies on the input's grid and nothing is cropped; no dropout; biases start at 0.
    """
    if preset not in WIDTHS:
        raise InputError(f"unet: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    check_norm("unet", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"unet: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return UNet(WIDTHS[preset], in_channels, classes, norm)


class UNet(nn.Module):
    """See `unet`, which builds it; `widths` are the channels of each level, finest first."""

    def __init__(
        self, widths: Sequence[int], in_channels: int, classes: int, norm: Norm = "none"
    ) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.in_channels, self.multiple = in_channels, 2 ** len(steps)
        self.first = _two_convolutions(in_channels, widths[0], norm)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(_two_convolutions(fine, coarse, norm) for fine, coarse in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
            for fine, coarse in reversed(steps)
        )
        self.merge = nn.ModuleList(
            _two_convolutions(2 * fine, fine, norm) for fine, _ in reversed(steps)
        )
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`.

        Raises:
            InputError: If the images have other channels than it was built for, or a height or
                width that is no multiple of 2 to the number of poolings.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            self._check(image)
        levels = [self.first(image)]
        for convolve in self.down:
            levels.append(convolve(self.pool(levels[-1])))
        merged: Tensor = levels.pop()
        for enlarge, convolve in zip(self.up, self.merge, strict=True):
            merged = convolve(torch.cat([levels.pop(), enlarge(merged)], dim=1))
        logits: Tensor = self.head(merged)
        return logits

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise InputError(
                f"unet: expected images (b, {self.in_channels}, h, w), got {tuple(image.shape)}"
            )
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple:
            above = [
                math.ceil(length / self.multiple) * self.multiple for length in (height, width)
            ]
            raise InputError(
                f"unet: height and width must be multiples of {self.multiple}, got "
                f"{height} x {width}; crop the images, or pad them to {above[0]} x {above[1]}"
            )


def _two_convolutions(before: int, after: int, norm: Norm) -> nn.Sequential:
    # A normalisation has its own shift, so the convolution before it needs none.
    bias = norm == "none"
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1, bias=bias),
        *normalisation(norm, after),
        nn.ReLU(),
        nn.Conv2d(after, after, kernel_size=3, padding=1, bias=bias),
        *normalisation(norm, after),
        nn.ReLU(),
    )


def _initialise(module: nn.Module) -> None:
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return
    # Stride equals kernel in an up-convolution: each output voxel sees one voxel per channel.
    window = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
    nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * window)))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
