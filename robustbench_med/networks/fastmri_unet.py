"""The U-Net baseline of fastMRI: one network that maps the zero-filled image to the image."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.measured import by_frame, measured
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels

TASK = "reconstruction"
BOUNDED_BY = ""
Preset = Literal["full", "small"]
WIDTHS: dict[Preset, tuple[int, ...]] = {
    "full": (32, 64, 128, 256, 512),
    "small": (16, 32, 64, 128),
}
SLOPE = 0.2
FAINTEST = 1e-24  # variance below which an image is black


def fastmri_unet(
    *, preset: Preset = "full", in_channels: int = 2, classes: int = 2
) -> "FastmriUNet":
    """Build a U-Net that maps measured k-space to complex images, without data consistency.

    Args:
        preset: "full" has the baseline's widths, 32 to 512 over 4 poolings: 7,756,418
            parameters. "small" differs in widths and depth only: 16 to 128, 481,090.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output: 2, the real and the imaginary part.

    Raises:
        InputError: If a setting is out of range.

    Source: Zbontar et al., 2018, arXiv:1811.08839; layers and initial weights (torch's own) as in
    the authors' code. Instance normalisation: Ulyanov et al., 2016, arXiv:1607.08022.
    Deviations: the baseline maps magnitudes to magnitudes, one channel to one, and this maps
    both parts of a complex image, which costs 321 parameters more. It forms the zero-filled image
    itself, with the coils' maps where the baseline takes the root of their sum of squares. Mean
    and deviation of each part are put back at the end. Dropout, of rate 0 there, is left out.
    """
    if preset not in WIDTHS:
        raise InputError(f"fastmri_unet: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    if in_channels < 2 or in_channels % 2 or classes != 2:
        raise InputError(
            "fastmri_unet: in_channels must be even, two for each coil, and classes 2, the real "
            f"and imaginary part, got {in_channels} and {classes}"
        )
    return FastmriUNet(WIDTHS[preset])


class FastmriUNet(nn.Module):
    """See `fastmri_unet`, which builds it; `widths` are the channels of each level, finest first.

    An image ten times as bright is reconstructed ten times as bright.
    """

    def __init__(self, widths: Sequence[int], channels: int = 2) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.shrinks = 2 ** len(steps)
        self.first = _two_convolutions(channels, widths[0])
        self.down = nn.ModuleList(_two_convolutions(fine, coarse) for fine, coarse in steps)
        self.up = nn.ModuleList(
            _normalised(nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2, bias=False), fine)
            for fine, coarse in reversed(steps)
        )
        self.merge = nn.ModuleList(_two_convolutions(2 * fine, fine) for fine, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], channels, kernel_size=1)

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, h, w)` to complex images `(b, 2, h, w)`.

        A series `(b, 2 c, t, h, w)` is reconstructed frame by frame.

        Raises:
            InputError: If the context has no mask, or no maps for several coils, or if the image
                is too small to be pooled.
        """
        if image.ndim == 5:
            return by_frame("fastmri_unet", self, image, context)
        zero_filled = to_channels(adjoint(*measured("fastmri_unet", image, context))[:, None])
        self._check(zero_filled)
        variance, mean = torch.var_mean(zero_filled, dim=(2, 3), keepdim=True)
        # Clamped before the root, so that a black image's derivative is 0, not NaN.
        deviation = variance.clamp(min=FAINTEST).sqrt()
        seen = self.enhance((zero_filled - mean) / deviation)
        # Under autocast the answer comes in half precision.
        return mean + deviation * seen.to(zero_filled)

    def enhance(self, image: Tensor) -> Tensor:
        """Map images `(b, c, h, w)` of mean 0 and deviation 1 to images of the same shape."""
        levels = [self.first(image)]
        for convolve in self.down:
            levels.append(convolve(F.avg_pool2d(levels[-1], 2)))
        merged: Tensor = levels.pop()
        for enlarge, convolve in zip(self.up, self.merge, strict=True):
            fine = levels.pop()
            merged = convolve(torch.cat([_fitted(enlarge(merged), fine), fine], dim=1))
        output: Tensor = self.head(merged)
        return output

    def _check(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        # The coarsest level is normalised over its pixels, so it needs two.
        if min(height, width) < self.shrinks or max(height, width) < 2 * self.shrinks:
            raise InputError(
                f"fastmri_unet: expected at least {self.shrinks} x {2 * self.shrinks} pixels, got "
                f"{height} x {width}; take larger images, or preset 'small', which pools less"
            )


def _fitted(coarse: Tensor, fine: Tensor) -> Tensor:
    """Mirror the last row or column of `coarse` where pooling left one of `fine` out."""
    rows, columns = (fine.shape[axis] - coarse.shape[axis] for axis in (-2, -1))
    return F.pad(coarse, (0, columns, 0, rows), mode="reflect") if rows or columns else coarse


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        *_normalised(nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False), after),
        *_normalised(nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False), after),
    )


def _normalised(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.InstanceNorm2d(channels), nn.LeakyReLU(SLOPE))
