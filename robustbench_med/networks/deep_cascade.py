"""Deep cascade of convolutional networks: de-alias, put the measurement back, again."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.fixed_cascade import FixedCascade
from robustbench_med.networks.measured import measured
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels, to_complex

Preset = Literal["full", "small"]


@dataclass(frozen=True)
class Size:
    """Cascades, convolutions in each, and channels between those."""

    cascades: int
    convolutions: int
    filters: int


SIZES: dict[Preset, Size] = {"full": Size(5, 5, 64), "small": Size(3, 4, 24)}


def deep_cascade(
    *,
    preset: Preset = "full",
    in_channels: int = 2,
    classes: int = 2,
    noise_weight: float | None = None,
) -> "DeepCascade":
    """Build a D5-C5, which maps measured k-space to complex images.

    Args:
        preset: "full" is the paper's: 5 cascades of 5 convolutions with 64 filters, 565,770
            parameters. "small" differs in depth and widths only: 3 of 4 with 24, 33,918.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output: 2, the real and the imaginary part.
        noise_weight: The paper's lambda, above 0: how much the measurement counts against the
            network where there is one. None for measurements without noise, lambda infinite.

    Raises:
        InputError: If a setting is out of range.

    Source: Schlemper et al., IEEE TMI 37 (2018), sections III-A to III-C, arXiv:1704.02422; size
    and initialisation as in the authors' code. Deviation: several coils, see `DeepCascade`.
    """
    if preset not in SIZES:
        raise InputError(f"deep_cascade: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    if in_channels < 2 or in_channels % 2 or classes != 2:
        raise InputError(
            "deep_cascade: in_channels must be even, two for each coil, and classes 2, the real "
            f"and imaginary part, got {in_channels} and {classes}"
        )
    if noise_weight is not None and not (math.isfinite(noise_weight) and noise_weight > 0):
        raise InputError(
            f"deep_cascade: noise_weight must be finite and above 0, got {noise_weight}; "
            "leave it out for measurements without noise"
        )
    return DeepCascade(SIZES[preset], noise_weight)


class DeepCascade(nn.Module):
    """See `deep_cascade`, which builds it.

    Data consistency turns an image `x` into `x + weight * A^H (y - A x)`, where `A` is the
    measurement, `A^H` its adjoint, `y` the measured k-space and `weight` lambda / (1 + lambda).

    One coil: that is exact. k-space of the output is `y` where measured, or the weighted mean
    of the two, and the network's own elsewhere. Several coils: each coil's own k-space is made
    consistent just so, and the coil images are then combined by their sensitivities. The
    combined image, seen through the coils again, need not show `y`: where squared sensitivities
    sum to 1 or less the distance to `y` never grows, but only vanishes if the corrected coil
    images are one image seen through the maps.
    """

    def __init__(self, size: Size, noise_weight: float | None) -> None:
        super().__init__()
        self.noise_weight = noise_weight
        self.weight = 1.0 if noise_weight is None else noise_weight / (1 + noise_weight)
        self.blocks = nn.ModuleList(_block(size) for _ in range(size.cascades))

    def extra_repr(self) -> str:
        """Tell what the weights do not; the model's digest reads it."""
        return f"noise_weight={self.noise_weight}"

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, h, w)` to complex images `(b, 2, h, w)`.

        Raises:
            InputError: If the context has no mask, or no maps for several coils.
        """
        kspace, maps, mask = measured("deep_cascade", image, context)
        kspace = mask * kspace
        seen = to_channels(adjoint(kspace, maps, mask)[:, None])
        for block in self.blocks:
            # Under autocast the block answers in half precision, which the transform lacks.
            seen = seen + block(seen).to(seen)
            missed = kspace - forward(to_complex(seen)[:, 0], maps, mask)
            seen = seen + self.weight * to_channels(adjoint(missed, maps, mask)[:, None])
        return seen

    def fixed(self, mask: Tensor) -> FixedCascade:
        """Write the network out for one coil and one set of lines, so that it can be bounded.

        Args:
            mask: `(1, h, w)`, 1 where measured, whole rows only: the case's context entry.

        Raises:
            InputError: If it has another shape, or rows that are measured in part.
        """
        if mask.ndim != 3 or len(mask) != 1 or not (mask == mask[..., :1]).all():
            raise InputError(
                "deep_cascade: fixed needs a mask (1, h, w) that is constant along each row, "
                f"got {tuple(mask.shape)}"
            )
        return FixedCascade(self.blocks, mask[0], self.weight)


def _block(size: Size) -> nn.Sequential:
    channels = [2, *[size.filters] * (size.convolutions - 1), 2]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        convolution = nn.Conv2d(before, after, kernel_size=3, padding=1)
        nn.init.normal_(convolution.weight, std=math.sqrt(2 / (9 * before)))
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
