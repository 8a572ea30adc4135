"""LeNet-5: two convolutions, three dense layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError

TASK = "classification"
BOUNDED_BY = "ibp, crown_ibp, crown"
Preset = Literal["full", "small"]


@dataclass(frozen=True)
class Widths:
    """Channels of the two convolutions and lengths of the two hidden dense layers."""

    convolutions: tuple[int, int]
    dense: tuple[int, int]


WIDTHS: dict[Preset, Widths] = {
    "full": Widths((6, 16), (120, 84)),
    "small": Widths((3, 6), (32, 24)),
}


def lenet(
    *,
    preset: Preset = "full",
    in_channels: int = 1,
    classes: int = 10,
    size: Sequence[int] = (32, 32),
) -> "LeNet":
    """Build a LeNet-5 that maps `(b, c, h, w)` to logits `(b, k)`.

    Args:
        preset: "full" is the paper's widths: 61,706 parameters for one channel, ten classes
            and 32 x 32. "small" is narrower.
        in_channels: Channels of the image.
        classes: Number of logits.
        size: Height and width of the image; fixed, as the first dense layer depends on them.

    Raises:
        InputError: If the preset is unknown, a count is below 1 or the size below 16 x 16.

    Source: LeCun et al., Proc. IEEE 86 (1998), section II.B, DOI 10.1109/5.726791.
    Deviations: ReLU instead of the scaled tanh; plain averages as sub-sampling, without
    trained coefficients; every map of the second convolution sees every map of the first;
    a dense layer instead of the radial-basis output. Weights are He-normal, biases 0.
    """
    if preset not in WIDTHS:
        raise InputError(f"lenet: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"lenet: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    if len(size) != 2 or min(size) < 16:
        raise InputError(f"lenet: size must be height and width of at least 16, got {size}")
    return LeNet(WIDTHS[preset], in_channels, classes, (size[0], size[1]))


class LeNet(nn.Module):
    """See `lenet`, which builds it."""

    def __init__(
        self, widths: Widths, in_channels: int, classes: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.shape = (in_channels, *size)
        (first, second), (third, fourth) = widths.convolutions, widths.dense
        height, width = (((length - 4) // 2 - 4) // 2 for length in size)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, first, kernel_size=5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(first, second, kernel_size=5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(second * height * width, third),
            nn.ReLU(),
            nn.Linear(third, fourth),
            nn.ReLU(),
            nn.Linear(fourth, classes),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k)`.

        Raises:
            InputError: If the images are not of the size it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and tuple(image.shape[1:]) != self.shape:
            raise InputError(
                f"lenet: built for images {self.shape}, got {tuple(image.shape[1:])}; "
                "build it with in_channels and size of the cohort"
            )
        logits: Tensor = self.layers(image)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
