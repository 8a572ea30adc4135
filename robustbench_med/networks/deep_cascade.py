"""Deep cascade of convolutional networks: de-alias, put the measurement back, again."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.consistency import consistency_weight, consistent
from robustbench_med.networks.fixed_cascade import FixedCascade
from robustbench_med.networks.measured import by_frame, measured
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels

TASK = "reconstruction"
BOUNDED_BY = "crown, in its fixed form"
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
    return DeepCascade(SIZES[preset], noise_weight)


class DeepCascade(nn.Module):
    """See `deep_cascade`, which builds it; `consistent` tells what several coils change."""

    def __init__(self, size: Size, noise_weight: float | None) -> None:
        super().__init__()
        self.noise_weight = noise_weight
        self.weight = consistency_weight("deep_cascade", noise_weight)
        channels = [2, *[size.filters] * (size.convolutions - 1), 2]
        self.blocks = nn.ModuleList(block_of(nn.Conv2d, channels) for _ in range(size.cascades))

    def extra_repr(self) -> str:
        """Tell what the weights do not; the model's digest reads it."""
        return f"noise_weight={self.noise_weight}"

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, h, w)` to complex images `(b, 2, h, w)`.

        A series `(b, 2 c, t, h, w)` is reconstructed frame by frame.

        Raises:
            InputError: If the context has no mask, or no maps for several coils.
        """
        if image.ndim == 5:
            return by_frame("deep_cascade", self, image, context)
        kspace, maps, mask = measured("deep_cascade", image, context)
        kspace = mask * kspace
        seen = to_channels(adjoint(kspace, maps, mask)[:, None])
        for block in self.blocks:
            # Under autocast the block answers in half precision, which the transform lacks.
            guess = seen + block(seen).to(seen)
            seen = consistent(guess, kspace, maps, mask, self.weight)
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


def block_of(kind: type[nn.Conv2d | nn.Conv3d], channels: Sequence[int]) -> nn.Sequential:
    """Convolutions of 3 voxels a side with ReLU between them, from one of `channels` to the next.

    Weights start He-normal, biases at 0.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        convolution = kind(before, after, kernel_size=3, padding=1)
        nn.init.normal_(convolution.weight, std=math.sqrt(2 / convolution.weight[0].numel()))
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
