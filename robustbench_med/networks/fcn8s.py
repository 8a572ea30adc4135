"""FCN-8s: a classifier made convolutional, its scores joined at three resolutions."""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.bilinear import bilinear
from robustbench_med.networks.grid import check_images
from robustbench_med.networks.normalisation import Norm, check_norm, normalisation

TASK = "segmentation"
BOUNDED_BY = ""
Preset = Literal["full", "small"]
MULTIPLE = 32
DROPOUT = 0.5


@dataclass(frozen=True)
class Size:
    """Channels and convolutions of the five stages, and channels of the two dense layers."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    dense: int


SIZES: dict[Preset, Size] = {
    "full": Size((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), 4096),
    "small": Size((8, 16, 32, 64, 64), (1, 1, 2, 2, 2), 64),
}


def fcn8s(
    *,
    preset: Preset = "full",
    in_channels: int = 3,
    classes: int = 21,
    norm: Norm = "none",
) -> "Fcn8s":
    """Build an FCN-8s, which maps `(b, c, h, w)` to logits `(b, k, h, w)`.

    Args:
        preset: "full" is the paper's VGG-16 with dense layers of 4096: 134,489,759 parameters for
            three channels in and 21 classes. "small" differs in depth and widths only: 8 to 64
            channels, eight convolutions and dense layers of 64, 0.48 million.
        in_channels: Channels of the image.
        classes: Channels of the output.
        norm: "none" is the paper's. "batch" or "group" follows each convolution but those that
            score, which then has no bias; private training needs "group".

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: Long et al., CVPR 2015, section 4 and figure 3, arXiv:1411.4038; Simonyan and
    Zisserman, ICLR 2015, table 1, column D, arXiv:1409.1556. Deviations: the first dense layer
    pads its 7 x 7 window by 3 and so keeps the grid, where the authors' code pads the image by 100
    and crops the answer; nothing is pretrained, weights start He-normal. Scores start at 0.
    Up-sampling starts bilinear and is trained, in all three steps.
    """
    if preset not in SIZES:
        raise InputError(f"fcn8s: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    check_norm("fcn8s", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"fcn8s: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return Fcn8s(SIZES[preset], in_channels, classes, norm)


class Fcn8s(nn.Module):
    """See `fcn8s`, which builds it."""

    def __init__(self, size: Size, in_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels = in_channels
        steps = zip(itertools.pairwise((in_channels, *size.widths)), size.blocks, strict=True)
        self.stages = nn.ModuleList(_stage(step, blocks, norm) for step, blocks in steps)
        third, fourth, fifth = size.widths[2:]
        self.dense = nn.Sequential(
            *_unit(fifth, size.dense, 7, norm),
            nn.Dropout(DROPOUT),
            *_unit(size.dense, size.dense, 1, norm),
            nn.Dropout(DROPOUT),
        )
        self.apply(_initialise)
        self.score = nn.ModuleList(_score(width, classes) for width in (size.dense, fourth, third))
        self.enlarge = nn.ModuleList(_enlarge(classes, factor) for factor in (2, 2, 8))

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`.

        Raises:
            InputError: If height or width is no multiple of 32, or the images have not the
                channels it was built for.
        """
        check_images("fcn8s", image, self.in_channels, MULTIPLE)
        pools = [image]
        for stage in self.stages:
            pools.append(stage(pools[-1]))
        found = (self.dense(pools[5]), pools[4], pools[3])
        coarsest, coarser, coarse = (
            score(maps) for score, maps in zip(self.score, found, strict=True)
        )
        twice, again, eightfold = self.enlarge
        logits: Tensor = eightfold(again(twice(coarsest) + coarser) + coarse)
        return logits


def _stage(channels: tuple[int, int], blocks: int, norm: Norm) -> nn.Sequential:
    widths = [channels[0], *[channels[1]] * blocks]
    units = (_unit(before, after, 3, norm) for before, after in itertools.pairwise(widths))
    return nn.Sequential(*itertools.chain(*units), nn.MaxPool2d(2))


def _unit(before: int, after: int, kernel: int, norm: Norm) -> list[nn.Module]:
    bias = norm == "none"
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)
    return [convolution, *normalisation(norm, after), nn.ReLU()]


def _score(before: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(before, classes, kernel_size=1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _enlarge(classes: int, factor: int) -> nn.ConvTranspose2d:
    length, rim = 2 * factor, factor // 2
    layer = nn.ConvTranspose2d(classes, classes, length, factor, padding=rim, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes)[..., None, None] * bilinear(length, factor))
    return layer


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
