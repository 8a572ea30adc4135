"""A 3-D convolutional network for super-resolution, which the loss makes an ACNN-SR."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.interpolation import Interpolation

TASK = "super_resolution"
BOUNDED_BY = ""
Preset = Literal["full", "small"]
Factors = tuple[int, int, int]


@dataclass(frozen=True)
class Size:
    """Channels of the convolutions on the coarse grid, and after the enlargement on the fine."""

    coarse: tuple[int, ...]
    fine: tuple[int, ...]


SIZES: dict[Preset, Size] = {"full": Size((64, 64, 64), (32, 32)), "small": Size((16, 16), (8,))}


def acnn_sr(
    *, preset: Preset = "full", in_channels: int = 1, factors: Sequence[int] = (5, 2, 2)
) -> "AcnnSr":
    """Build what maps `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

    Convolutions on the coarse grid, one transposed convolution to the fine one, convolutions
    there. What is learned is a correction to linear interpolation; the last layer begins at 0, so
    that an untrained network interpolates.

    What makes it an ACNN-SR is the loss that it is trained with, `sr_prior`; trained with any
    other it is the plain 3-D network that ACNN-SR is to be held against.

    Args:
        preset: "full": three convolutions of 64 channels, enlarged to 32, one more of 32:
            292,641 parameters for one channel. "small" differs in depth and widths only: two of 16,
            enlarged to 8: 10,161.
        in_channels: Channels of the image, each made finer.
        factors: How many thin voxels a thick one is cut into along z, y and x. Thick slice
            `z` covers the thin slices `fz z` to `fz z + fz - 1`.

    Raises:
        InputError: If the preset is unknown, `in_channels` is below 1, or the factors are not
            three numbers of at least 1.

    Source: Oktay et al., IEEE TMI 37 (2018), section on super-resolution, arXiv:1705.08302, for
    the loss and the through-plane factor of 5. Layers, widths, kernels, the in-plane factors and
    the correction to interpolation are this project's choice: we could not confirm the paper's.
    Beyond the stack its outermost voxels are repeated; weights start He-normal.
    """
    if preset not in SIZES:
        raise InputError(f"acnn_sr: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    if in_channels < 1:
        raise InputError(f"acnn_sr: in_channels must be at least 1, got {in_channels}")
    if len(factors) != 3 or min(factors) < 1:
        raise InputError(f"acnn_sr: factors must be three of at least 1, got {factors}")
    return AcnnSr(SIZES[preset], in_channels, (factors[0], factors[1], factors[2]))


class AcnnSr(nn.Module):
    """See `acnn_sr`, which builds it."""

    def __init__(self, size: Size, in_channels: int, factors: Factors) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.interpolate = Interpolation("linear", factors)
        first = size.fine[0]
        self.coarse = _convolutions((in_channels, *size.coarse))
        self.enlarge = nn.ConvTranspose3d(size.coarse[-1], first, factors, stride=factors)
        self.fine = nn.Sequential(nn.ReLU(), *_convolutions(size.fine))
        self.last = _convolution(size.fine[-1], in_channels)
        self.apply(_initialise)
        nn.init.zeros_(self.last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

        Raises:
            InputError: If the images have not three axes, or not the channels it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and (image.ndim != 5 or image.shape[1] != self.in_channels):
            raise InputError(
                f"acnn_sr: expected stacks (b, {self.in_channels}, z, y, x), got "
                f"{tuple(image.shape)}"
            )
        fine = self.fine(self.enlarge(self.coarse(image)))
        finer: Tensor = self.interpolate(image) + self.last(fine)
        return finer


def _convolutions(widths: Sequence[int]) -> nn.Sequential:
    layers = (
        layer
        for before, after in itertools.pairwise(widths)
        for layer in (_convolution(before, after), nn.ReLU())
    )
    return nn.Sequential(*layers)


def _convolution(before: int, after: int) -> nn.Conv3d:
    # Stacks are a few slices high: zeros beyond them would reach every one.
    return nn.Conv3d(before, after, 3, padding=1, padding_mode="replicate")


def _initialise(module: nn.Module) -> None:
    if not isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        return
    # Stride equals kernel in the enlargement: each fine voxel sees one coarse voxel per channel.
    window = 1 if isinstance(module, nn.ConvTranspose3d) else math.prod(module.kernel_size)
    nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * window)))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
