"""A plain stack of convolutions at half the resolution: small enough that proofs reach far."""

import math
from typing import Literal

from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.grid import check_images

TASK = "segmentation"
BOUNDED_BY = "ibp, crown_ibp, crown, alpha_crown, branch_and_bound; in tiles"
Preset = Literal["full", "small"]
# Channels, and how far apart the pixels are that each 3 x 3 kernel between both ends reads.
SIZES: dict[Preset, tuple[int, tuple[int, ...]]] = {
    "full": (32, (1, 2, 4, 2, 1)),
    "small": (16, (1, 2, 4, 1)),
}


def plain_fcn(*, preset: Preset = "full", in_channels: int = 1, classes: int = 4) -> "PlainFcn":
    """Build a network that maps `(b, c, h, w)` to logits `(b, k, h, w)`, for images of any size.

    Convolutions and ReLU only, no pooling and no skip: a pixel's answer depends only on pixels
    as far away as the dilations add up to, so that bounds can be had tile by tile.

    Args:
        preset: "full" has 32 channels and six layers of 3 x 3, and sees 17 pixels far; "small" 12
            channels and five, and sees 10 pixels far.
        in_channels: Channels of the image.
        classes: Channels of the output.

    Raises:
        InputError: If the preset is unknown or a count is below 1.

    Source: dilated convolutions at full resolution as in Yu and Koltun, ICLR 2016, section 3,
    arXiv:1511.07122; smaller, as what is proved about a network falls with its depth and width.
    Biases start at 0, weights He-normal.
    """
    if preset not in SIZES:
        raise InputError(f"plain_fcn: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"plain_fcn: in_channels and classes must be at least 1, got {in_channels} and "
            f"{classes}"
        )
    return PlainFcn(*SIZES[preset], in_channels, classes)


class PlainFcn(nn.Module):
    """See `plain_fcn`, which builds it."""

    def __init__(
        self, width: int, dilations: tuple[int, ...], in_channels: int, classes: int
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.ReLU()]
        for dilation in dilations:
            layers += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(width, classes, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to logits `(b, k, h, w)`.

        Raises:
            InputError: If the images have not the channels it was built for.
        """
        check_images("plain_fcn", image, self.in_channels, 2)
        logits: Tensor = self.layers(image)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        # Kernel 4 and stride 2: 4 of the 16 weights meet in an output of the transposed one.
        seen = module.in_channels * (4 if isinstance(module, nn.ConvTranspose2d) else 0)
        seen = seen or math.prod(module.weight.shape[1:])
        nn.init.normal_(module.weight, std=math.sqrt(2 / seen))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
