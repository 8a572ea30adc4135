"""ACNN-Seg: a fully convolutional network whose training knows what hearts look like."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import Norm, check_norm, normalisation

TASK = "segmentation"
BOUNDED_BY = "ibp, crown"
Preset = Literal["full", "small"]
WIDTHS: dict[Preset, tuple[int, ...]] = {"full": (32, 64, 128, 256), "small": (8, 16, 32, 64)}


def acnn_seg(
    *,
    preset: Preset = "full",
    in_channels: int = 1,
    classes: int = 4,
    norm: Norm = "batch",
) -> "AcnnSeg":
    """Build what maps `(b, c, h, w)` to logits `(b, k, h, w)`.

    What makes it an ACNN is the loss that it is trained with, `anatomical_prior`; trained with
    the task's own it is the same network without the prior, and what ACNN-Seg is to be held
    against. In evaluation it is convolutions, sums and ReLU only, which `crown` can bound.

    Args:
        preset: "full" has 32 to 256 channels on four levels: 1,539,012 parameters for one channel
            and four classes. "small" differs in widths only: 8 to 64 channels, 96,756.
        in_channels: Channels of the image.
        classes: Channels of the output.
        norm: "batch", "group", which normalises each case by itself as private training needs and
            cannot be bounded, or "none".

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: Oktay et al., IEEE TMI 37 (2018), section on segmentation with a shape prior,
    arXiv:1705.08302, for the loss, and for a fully convolutional network beneath it. Deviations:
    the paper's works on volumes and answers on a finer grid through the planes; this one works on
    slices and answers on the image's grid. Levels, widths, kernels, the transposed convolutions,
    what is added to what, and the normalisation are this project's choice: we could not confirm
    the paper's. Weights start He-normal.
    """
    if preset not in WIDTHS:
        raise InputError(f"acnn_seg: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    check_norm("acnn_seg", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"acnn_seg: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return AcnnSeg(WIDTHS[preset], in_channels, classes, norm)


class AcnnSeg(nn.Module):
    """See `acnn_seg`, which builds it; `widths` are the channels of each level, finest first."""

    def __init__(self, widths: Sequence[int], in_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.in_channels, self.multiple = in_channels, 2 ** len(steps)
        self.down = nn.ModuleList(
            nn.Sequential(_unit(before, after, norm, stride), _unit(after, after, norm))
            for (before, after), stride in zip(
                [(in_channels, widths[0]), *steps], [1, *[2] * len(steps)], strict=True
            )
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
            for fine, coarse in reversed(steps)
        )
        self.merge = nn.ModuleList(_unit(fine, fine, norm) for fine, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`.

        Raises:
            InputError: If height or width is no multiple of 8, or the images have not the
                channels it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            self._check(image)
        levels, maps = [], image
        for convolve in self.down:
            maps = convolve(maps)
            levels.append(maps)
        maps = levels.pop()
        for enlarge, convolve in zip(self.up, self.merge, strict=True):
            maps = convolve(enlarge(maps) + levels.pop())
        logits: Tensor = self.head(maps)
        return logits

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise InputError(
                f"acnn_seg: expected images (b, {self.in_channels}, h, w), got "
                f"{tuple(image.shape)}; build it with in_channels of the cohort"
            )
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple:
            above = [math.ceil(side / self.multiple) * self.multiple for side in (height, width)]
            raise InputError(
                f"acnn_seg: height and width must be multiples of {self.multiple}, got "
                f"{height} x {width}; crop the images, or pad them to {above[0]} x {above[1]}"
            )


def _unit(before: int, after: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=norm == "none"),
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
