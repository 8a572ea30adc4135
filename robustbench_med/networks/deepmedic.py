"""DeepMedic: a close look at every voxel beside a coarse look at its surroundings, in 3-D."""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import check_norm, normalisation

TASK = "segmentation"
BOUNDED_BY = ""
Preset = Literal["full", "small"]
Norm = Literal["batch", "group"]
STRIDE = 3
FIRST_SLOPE = 0.01
DROPOUT = 0.5


@dataclass(frozen=True)
class Size:
    """Channels of each convolution of a pathway, and of the two dense layers."""

    widths: tuple[int, ...]
    dense: tuple[int, int]


SIZES: dict[Preset, Size] = {
    "full": Size((30, 30, 40, 40, 40, 40, 50, 50), (150, 150)),
    "small": Size((8, 8, 12, 12, 16, 16, 20, 20), (40, 40)),
}


def deepmedic(
    *,
    preset: Preset = "full",
    in_channels: int = 2,
    classes: int = 2,
    norm: Norm = "batch",
) -> "DeepMedic":
    """Build a DeepMedic that maps volumes `(b, c, z, y, x)` to logits `(b, k, z, y, x)`.

    Any size will do, also a single slice; a volume is continued by its outermost voxels.

    Args:
        preset: "full" is the paper's two pathways of eight convolutions with 30 to 50 channels:
            659,462 parameters for two channels in and two classes. "small" differs in widths
            only: 8 to 20, 84,546.
        in_channels: Channels of the volume.
        classes: Channels of the output.
        norm: "batch" is the paper's. "group" normalises each case by itself, as private training
            needs; an answer then depends on the whole volume.

    Raises:
        InputError: If preset or norm is unknown or a count is below 1.

    Source: Kamnitsas et al., Medical Image Analysis 36 (2017), figure 5 and section 3,
    arXiv:1603.05959; repetition as up-sampling, slopes that start at 0.01 and dropout after each
    dense layer as in the authors' code. Deviations: whole volumes instead of segments, which
    gives the same answers; the coarse pathway looks at the middle voxel of every 3 x 3 x 3.
    """
    if preset not in SIZES:
        raise InputError(f"deepmedic: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    check_norm("deepmedic", norm, get_args(Norm))
    if in_channels < 1 or classes < 1:
        raise InputError(
            "deepmedic: in_channels and classes must be at least 1, got "
            f"{in_channels} and {classes}"
        )
    return DeepMedic(SIZES[preset], in_channels, classes, norm)


class DeepMedic(nn.Module):
    """See `deepmedic`, which builds it."""

    def __init__(self, size: Size, in_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.margin = len(size.widths)
        self.fine = _pathway((in_channels, *size.widths), norm)
        self.coarse = _pathway((in_channels, *size.widths), norm)
        first, second = size.dense
        self.head = nn.Sequential(
            _unit(2 * size.widths[-1], first, 1, norm),
            nn.Dropout(DROPOUT),
            _unit(first, second, 1, norm),
            nn.Dropout(DROPOUT),
            nn.Conv3d(second, classes, kernel_size=1),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, z, y, x)` to logits `(b, k, z, y, x)`.

        Raises:
            InputError: If there is no volume, or not the channels it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and (image.ndim != 5 or image.shape[1] != self.in_channels):
            raise InputError(
                f"deepmedic: expected volumes (b, {self.in_channels}, z, y, x), got "
                f"{tuple(image.shape)}; build it with in_channels of the cohort; a slice is a "
                "volume with z = 1"
            )
        # The coarse pathway sees the middle of every block of three voxels, and 8 blocks around.
        before = STRIDE * self.margin - 1
        pads = [side for n in image.shape[:1:-1] for side in (before, before + -n % STRIDE)]
        around = F.pad(image, pads, mode="replicate")
        near = before - self.margin
        z, y, x = (slice(near, near + n + 2 * self.margin) for n in image.shape[2:])
        return self.segment(around[..., z, y, x], around[..., ::STRIDE, ::STRIDE, ::STRIDE])

    def segment(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Answer for the middle of a segment, as in the paper's training.

        Args:
            fine: `(b, c, *s + 16)`, for example 25 x 25 x 25 voxels for an answer for 9 x 9 x 9.
            coarse: `(b, c, *s / 3 + 16)`, every third voxel: 19 x 19 x 19, the first of them 23
                voxels before the first answer on each axis.

        Returns:
            Logits `(b, k, *s)`.
        """
        near = self.fine(fine)
        far = self.coarse(coarse)
        for axis in (2, 3, 4):
            far = far.repeat_interleave(STRIDE, dim=axis)
        z, y, x = near.shape[2:]
        logits: Tensor = self.head(torch.cat([near, far[..., :z, :y, :x]], dim=1))
        return logits


def _pathway(channels: tuple[int, ...], norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        *(_unit(before, after, 3, norm) for before, after in itertools.pairwise(channels))
    )


def _unit(before: int, after: int, kernel: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, after, kernel, bias=False),
        *normalisation(norm, after, axes=3),
        nn.PReLU(after, init=FIRST_SLOPE),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
