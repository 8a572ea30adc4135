"""T-L network: a code that segmentations are made of, and that images predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.label_code import Grid, check_grid, decoder, encoder
from robustbench_med.networks.normalisation import Norm, check_norm

TASK = "segmentation"
BOUNDED_BY = "ibp, crown"
Preset = Literal["full", "small"]
CODE = 64


@dataclass(frozen=True)
class Size:
    """Channels of each level of all three parts, finest first; the predictor's convolutions."""

    widths: tuple[int, ...]
    convolutions: int


SIZES: dict[Preset, Size] = {
    "full": Size((32, 64, 128, 256), 2),
    "small": Size((16, 32, 32, 32), 2),
}


def tl_network(
    *,
    preset: Preset = "full",
    in_channels: int = 1,
    classes: int = 4,
    size: Sequence[int] = (96, 96),
    norm: Norm = "none",
) -> "TlNetwork":
    """Build a T-L network, which maps `(b, c, h, w)` to logits `(b, k, h, w)` through 64 numbers.

    Its encoder f maps a segmentation to a code, its decoder g a code to a segmentation, and its
    predictor p an image to the code of its segmentation. The answer is g(p(image)). It is trained
    in three stages, by the losses `label_autoencoder`, `code_distance` and `code_joint`.

    Args:
        preset: "full" has 32 to 256 channels on four levels: 3,718,724 parameters for one
            channel, four classes and 96 x 96. "small" differs in widths only: 16 to 32, 334,116.
        in_channels: Channels of the image.
        classes: Of the segmentation.
        size: Height and width, multiples of 16.
        norm: What follows each convolution; private training needs "group" or "none".

    Raises:
        InputError: If preset or norm is unknown, a count is below 1, or the size does not fit.

    Source: Oktay et al., IEEE TMI 37 (2018), section on the T-L network, arXiv:1705.08302: the
    three parts, their stages of training, strided convolutions and a short dense code. How many
    layers of which widths, kernels and normalisation are this project's choice, as are 2-D slices
    instead of volumes: we could not confirm the paper's.
    """
    if preset not in SIZES:
        raise InputError(f"tl_network: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    check_norm("tl_network", norm, get_args(Norm))
    if in_channels < 1 or classes < 2:
        raise InputError(
            "tl_network: in_channels must be at least 1 and classes at least 2, got "
            f"{in_channels} and {classes}"
        )
    grid = check_grid("tl_network", size, len(SIZES[preset].widths))
    return TlNetwork(SIZES[preset], in_channels, classes, grid, norm)


class TlNetwork(nn.Module):
    """See `tl_network`, which builds it.

    Attributes:
        encoder: f, `(b, k, h, w)` probabilities of the classes to `(b, 64)`.
        decoder: g, `(b, 64)` to logits `(b, k, h, w)`.
        predictor: p, `(b, c, h, w)` images to `(b, 64)`.
        grid: Height and width.
    """

    def __init__(
        self, size: Size, in_channels: int, classes: int, grid: Grid, norm: Norm = "none"
    ) -> None:
        super().__init__()
        self.in_channels, self.classes, self.grid = in_channels, classes, grid
        widths = size.widths
        self.encoder = encoder(classes, widths, grid, CODE, norm=norm)
        self.decoder = decoder(classes, widths, grid, CODE, norm=norm)
        self.predictor = encoder(
            in_channels, widths, grid, CODE, norm=norm, convolutions=size.convolutions
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`: g(p(image)).

        Raises:
            InputError: If the images are not of the channels and size it was built for.
        """
        logits: Tensor = self.decoder(self.predict(image))
        return logits

    def predict(self, image: Tensor) -> Tensor:
        """Map images `(b, c, h, w)` to codes `(b, 64)`: p; raises like `forward`."""
        self._check(image, "images", self.in_channels)
        code: Tensor = self.predictor(image)
        return code

    def encode(self, probabilities: Tensor) -> Tensor:
        """Map probabilities `(b, k, h, w)`, or truth as 0 and 1, to codes `(b, 64)`: f.

        Raises:
            InputError: If they are not of the classes and size it was built for.
        """
        self._check(probabilities, "probabilities", self.classes)
        code: Tensor = self.encoder(probabilities)
        return code

    def _check(self, maps: Tensor, what: str, channels: int) -> None:
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        height, width = self.grid
        if not tracing and (maps.ndim != 4 or maps.shape[1:] != (channels, height, width)):
            raise InputError(
                f"tl_network: expected {what} (b, {channels}, {height}, {width}), got "
                f"{tuple(maps.shape)}; build it with in_channels, classes and size of the cohort"
            )
