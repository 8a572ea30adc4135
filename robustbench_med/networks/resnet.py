"""ResNet-18: blocks of two convolutions that learn what to add to their input."""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import check_norm, normalisation

TASK = "classification"
BOUNDED_BY = "ibp, crown_ibp"
Preset = Literal["full", "small"]
Norm = Literal["batch", "group"]
BLOCKS = 2


@dataclass(frozen=True)
class Shape:
    """The first convolution's kernel, whether a pooling follows it, channels of each stage."""

    kernel: int
    pool: bool
    widths: tuple[int, ...]


SHAPES: dict[Preset, Shape] = {
    "full": Shape(kernel=7, pool=True, widths=(64, 128, 256, 512)),
    "small": Shape(kernel=3, pool=False, widths=(16, 32, 64)),
}


def resnet(
    *,
    preset: Preset = "full",
    in_channels: int = 3,
    classes: int = 1000,
    norm: Norm = "batch",
) -> "ResNet":
    """Build a ResNet that maps `(b, c, h, w)` to logits `(b, k)`, for any height and width.

    Args:
        preset: "full" is the paper's 18 layers: 11,689,512 parameters for three channels and
            1000 classes. "small" has the same blocks in three stages of 16, 32 and 64
            channels, and begins with 3 x 3 without pooling, for images of 64 to 96 pixels.
        in_channels: Channels of the image.
        classes: Number of logits.
        norm: "batch" is the paper's. "group" normalises each case by itself, 16 channels
            together, as private training needs.

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: He et al., CVPR 2016, table 1 and section 4.1 (projection shortcuts, option B),
    arXiv:1512.03385; weights: He et al., ICCV 2015, arXiv:1502.01852; group normalisation:
    Wu and He, ECCV 2018, arXiv:1803.08494.
    """
    if preset not in SHAPES:
        raise InputError(f"resnet: preset must be one of {', '.join(SHAPES)}, got {preset!r}")
    check_norm("resnet", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"resnet: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return ResNet(SHAPES[preset], in_channels, classes, norm)


class ResNet(nn.Module):
    """See `resnet`, which builds it."""

    def __init__(self, shape: Shape, in_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels = in_channels
        first = shape.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(
                in_channels, first, shape.kernel, stride=2, padding=shape.kernel // 2, bias=False
            ),
            *normalisation(norm, first),
            nn.ReLU(),
            *([nn.MaxPool2d(3, stride=2, padding=1)] if shape.pool else []),
        )
        self.blocks = nn.Sequential(
            *(Block(first, first, 1, norm) for _ in range(BLOCKS)),
            *(
                Block(before if index == 0 else after, after, 2 if index == 0 else 1, norm)
                for before, after in itertools.pairwise(shape.widths)
                for index in range(BLOCKS)
            ),
        )
        self.head = nn.Linear(shape.widths[-1], classes)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k)`.

        Raises:
            InputError: If the images have not two axes, or not the channels it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and (image.ndim != 4 or image.shape[1] != self.in_channels):
            raise InputError(
                f"resnet: expected images (b, {self.in_channels}, h, w), got "
                f"{tuple(image.shape)}; build it with in_channels of the cohort"
            )
        maps = self.blocks(self.stem(image))
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """Two convolutions, added to the input or to its projection."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            *normalisation(norm, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            *normalisation(norm, after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False),
                *normalisation(norm, after),
            )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map `(b, before, h, w)` to `(b, after, h / stride, w / stride)`."""
        after: Tensor = self.activation(self.residual(maps) + self.shortcut(maps))
        return after


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
