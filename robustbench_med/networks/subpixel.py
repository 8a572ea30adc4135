"""ESPCN: super-resolution that works on the coarse grid and shuffles channels into voxels."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.fixed_slices import FixedSlices
from robustbench_med.networks.neighbours import edges_repeated, with_neighbours

TASK = "super_resolution"
BOUNDED_BY = "ibp, crown_ibp, and in its fixed form crown"
Preset = Literal["full", "small"]
Factors = tuple[int, int, int]
WIDTHS: dict[Preset, tuple[int, int]] = {"full": (64, 32), "small": (32, 16)}


def espcn(
    *, preset: Preset = "full", in_channels: int = 1, factors: Sequence[int] = (5, 2, 2)
) -> "Espcn":
    """Build an ESPCN that maps `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

    Args:
        preset: "full" is the paper's widths, 64 and 32; "small" halves them.
        in_channels: Channels of the image, each made finer.
        factors: How many thin voxels a thick one is cut into along z, y and x. Thick slice
            `z` covers the thin slices `fz z` to `fz z + fz - 1`.

    Raises:
        InputError: If the preset is unknown, `in_channels` is below 1, or the factors are not
            three numbers of at least 1.

    Source: Shi et al., CVPR 2016, sections 3.1 and 3.2, arXiv:1609.05158.
    Deviations: a stack instead of an image: each slice is seen together with its two
    neighbours (the outermost with itself), and channels are shuffled along z as well; ReLU
    instead of tanh; what is learned is a correction to linear interpolation, and the last
    layer begins at 0, so that an untrained network interpolates. Other weights are He-normal.
    Can be bounded by `ibp` and `crown_ibp`; `crown` gives up on the repeated weights, and
    bounds `fixed`, which is written for one number of slices.
    """
    if preset not in WIDTHS:
        raise InputError(f"espcn: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    if in_channels < 1:
        raise InputError(f"espcn: in_channels must be at least 1, got {in_channels}")
    if len(factors) != 3 or min(factors) < 1:
        raise InputError(f"espcn: factors must be three of at least 1, got {factors}")
    return Espcn(WIDTHS[preset], in_channels, (factors[0], factors[1], factors[2]))


class Espcn(nn.Module):
    """See `espcn`, which builds it."""

    stencil: Tensor

    def __init__(self, widths: tuple[int, int], in_channels: int, factors: Factors) -> None:
        super().__init__()
        first, second = widths
        self.in_channels, self.factors = in_channels, factors
        parts = factors[0] * factors[1] * factors[2]
        self.first = nn.Conv2d(3 * in_channels, first, kernel_size=5, padding=2)
        self.second = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.third = nn.Conv2d(second, parts * in_channels, kernel_size=3, padding=1)
        self.apply(_initialise)
        nn.init.zeros_(self.third.weight)
        # Not among the weights: the factors decide it.
        self.register_buffer("stencil", linear_stencil(factors), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, z, y, x)` to `(b, c, fz z, fy y, fx x)`.

        Raises:
            InputError: If the images have not three axes, or not the channels it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and (image.ndim != 5 or image.shape[1] != self.in_channels):
            raise InputError(
                f"espcn: expected stacks (b, {self.in_channels}, z, y, x), got {tuple(image.shape)}"
            )
        slices = image.shape[2]
        near = with_neighbours(image)
        maps = F.relu(_each_slice(self.first, near, slices))
        maps = F.relu(_each_slice(self.second, maps, slices))
        parts = _each_slice(self.third, maps, slices)
        return self.shuffled(parts + self._interpolated(near, slices), slices)

    def extra_repr(self) -> str:
        """What the weights' shapes do not tell: digests are made from it."""
        return f"factors={self.factors}"

    def _interpolated(self, near: Tensor, slices: int) -> Tensor:
        """Linear interpolation, `(b, z c 3, y, x)` to `(b, z c fz fy fx, y, x)`."""
        groups = slices * self.in_channels
        return F.conv2d(edges_repeated(near), torch.cat([self.stencil] * groups), groups=groups)

    def fixed(self, slices: int) -> FixedSlices:
        """Write the network out for stacks of so many slices, as `crown` can read it.

        Raises:
            InputError: If there is no slice.
        """
        return FixedSlices(self, slices)

    def shuffled(self, parts: Tensor, slices: int) -> Tensor:
        """Each voxel's parts to where they lie: `(b, z c fz fy fx, y, x)` to the fine grid."""
        cells = parts.reshape(-1, slices, self.in_channels, *self.factors, *parts.shape[-2:])
        # b z c fz fy fx y x  ->  b c z fz y fy x fx
        return cells.permute(0, 2, 1, 3, 6, 4, 7, 5).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def linear_stencil(factors: Factors) -> Tensor:
    """Weights of linear interpolation from 27 coarse voxels to the parts of the middle one.

    Returns:
        `(fz fy fx, 3, 3, 3)`: the kernel of a convolution whose channels are three slices.
    """
    z, y, x = (_weights(factor) for factor in factors)
    return torch.einsum("iz,jy,kx->ijkzyx", z, y, x).flatten(0, 2)


def _weights(factor: int) -> Tensor:
    """Shares `(factor, 3)` of the voxel before, the voxel and the one after, in each part."""
    offset = (torch.arange(factor) + 0.5) / factor - 0.5
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], dim=1)


def _each_slice(layer: nn.Conv2d, maps: Tensor, slices: int) -> Tensor:
    """Convolve every slice alike, `(b, z c, y, x)` to `(b, z k, y, x)`.

    Slices stand among the channels, not among the cases, because auto-LiRPA bounds case by case.
    """
    weight = torch.cat([layer.weight] * slices)
    bias = torch.cat([layer.bias] * slices) if layer.bias is not None else None
    return F.conv2d(maps, weight, bias, padding=layer.padding, groups=slices)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
