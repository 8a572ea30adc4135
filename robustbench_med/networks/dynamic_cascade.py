"""Deep cascade for series: each frame is de-aliased with what its neighbours measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.consistency import consistency_weight, consistent
from robustbench_med.networks.deep_cascade import Size, block_of
from robustbench_med.networks.measured import measured_frames
from robustbench_med.networks.sharing import fill_estimated, fill_measured
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels, to_complex

TASK = "reconstruction of series"
BOUNDED_BY = ""
Preset = Literal["full", "small"]


@dataclass(frozen=True)
class SharingSize:
    """Cascades, convolutions, channels, and how far shared frames may lie."""

    cascade: Size
    distances: tuple[int, ...]


SIZES: dict[Preset, SharingSize] = {
    "full": SharingSize(Size(10, 5, 64), (0, 1, 2, 3, 4)),
    "small": SharingSize(Size(3, 4, 16), (0, 1, 2, 3)),
}


def dynamic_cascade(
    *,
    preset: Preset = "full",
    in_channels: int = 2,
    classes: int = 2,
    distances: Sequence[int] | None = None,
    noise_weight: float | None = None,
) -> "DynamicCascade":
    """Build a D5-C10(S), which maps measured k-space of a series to complex images.

    Args:
        preset: "full" is the paper's: 10 cascades of 5 convolutions, 3 x 3 x 3, with 64 filters,
            and data sharing before each, 3,562,260 parameters. "small" differs in depth, widths
            and distances only: 3 of 4 with 16, up to 3 frames away, 57,174.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output: 2, the real and the imaginary part.
        distances: How many frames away data are shared from; each gives two channels beside
            the two of the image itself. None for 0 to 4, or 0 to 3 in "small".
        noise_weight: As in `deep_cascade`.

    Raises:
        InputError: If a setting is out of range.

    Source: Schlemper et al., IEEE TMI 37 (2018), section III, arXiv:1704.02422;
    size, 12 channels (the image and 5 distances) and initialisation as in the authors' code.
    Convolutions pad with zeros in time too; only the sharing goes round. Deviation: several
    coils, see `consistent`.
    """
    if preset not in SIZES:
        raise InputError(
            f"dynamic_cascade: preset must be one of {', '.join(SIZES)}, got {preset!r}"
        )
    if in_channels < 2 or in_channels % 2 or classes != 2:
        raise InputError(
            "dynamic_cascade: in_channels must be even, two for each coil, and classes 2, the "
            f"real and imaginary part, got {in_channels} and {classes}"
        )
    size = SIZES[preset]
    asked = size.distances if distances is None else tuple(distances)
    if not asked or any(type(n) is not int or n < 0 for n in asked) or len({*asked}) < len(asked):
        raise InputError(
            "dynamic_cascade: distances must be whole numbers, at least 0, each once, got "
            f"{list(asked)}"
        )
    return DynamicCascade(SharingSize(size.cascade, asked), noise_weight)


class DynamicCascade(nn.Module):
    """See `dynamic_cascade`, which builds it; `consistent` tells what several coils change."""

    def __init__(self, size: SharingSize, noise_weight: float | None) -> None:
        super().__init__()
        self.noise_weight = noise_weight
        self.weight = consistency_weight("dynamic_cascade", noise_weight)
        self.distances = size.distances
        inner = [size.cascade.filters] * (size.cascade.convolutions - 1)
        channels = [2 + 2 * len(self.distances), *inner, 2]
        self.blocks = nn.ModuleList(
            block_of(SeriesConvolution, channels) for _ in range(size.cascade.cascades)
        )

    def extra_repr(self) -> str:
        """Tell what the weights do not; the model's digest reads it."""
        return f"distances={list(self.distances)}, noise_weight={self.noise_weight}"

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, t, h, w)` to complex images `(b, 2, t, h, w)`.

        Raises:
            InputError: If the context has no mask, or no maps for several coils.
        """
        kspace, maps, mask = measured_frames("dynamic_cascade", image, context)
        kspace = mask * kspace
        everywhere = torch.ones_like(mask)
        seen = to_channels(adjoint(kspace, maps, mask)[:, None])
        filled = fill_measured(kspace, mask, self.distances)
        for number, block in enumerate(self.blocks):
            if number > 0:
                own = forward(to_complex(seen)[:, 0], maps, everywhere)
                filled = fill_estimated(own, mask, self.distances)
            shared = [to_channels(adjoint(each, maps, everywhere)[:, None]) for each in filled]
            # Under autocast the block answers in half precision, which the transform lacks.
            guess = seen + block(torch.cat([seen, *shared], dim=1)).to(seen)
            seen = consistent(guess, kspace, maps, mask, self.weight)
        return seen


class SeriesConvolution(nn.Conv3d):
    """A convolution of 3 x 3 x 3, padded by 1, over `(b, c, t, h, w)`.

    On a CPU it is written as one of 3 x 3 over each frame and its neighbours, stacked: several
    times faster there for few channels, and the same sums.
    """

    def forward(self, series: Tensor) -> Tensor:
        """Map `(b, before, t, h, w)` to `(b, after, t, h, w)`."""
        if series.device.type != "cpu":
            return super().forward(series)
        cases, _, frames = series.shape[:3]
        padded = F.pad(series, (0, 0, 0, 0, 1, 1)).transpose(1, 2)
        around = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=2)
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        after = F.conv2d(around.flatten(0, 1), weight, self.bias, padding=1)
        return after.view(cases, frames, *after.shape[1:]).transpose(1, 2)
