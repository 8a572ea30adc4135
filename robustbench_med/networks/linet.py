"""LI-Net: undersampled k-space to a code of the labels, and the code to labels."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.fixed_lines import FixedLines
from robustbench_med.networks.label_code import Grid, check_grid, decoder, encoder, one_hot
from robustbench_med.networks.whole_patients import patients_of, zero_filled_slices

TASK = "segmentation of k-space"
BOUNDED_BY = "crown, in its fixed form"
Preset = Literal["full", "small"]
WIDTHS: dict[Preset, tuple[int, ...]] = {"full": (32, 64, 128, 256), "small": (16, 32, 64, 64)}


def linet(
    *,
    preset: Preset = "full",
    in_channels: int = 2,
    classes: int = 4,
    size: Sequence[int] = (96, 96),
    code: int = 64,
) -> "LiNet":
    """Build a LI-Net, which is trained in two stages: the losses `linet_labels`, `linet_codes`.

    It has three parts: an encoder, from labels to a code; a decoder, from the code to logits; and
    a predictor, from the zero-filled image to the code. The encoder serves training alone.

    Args:
        preset: "full" has 32 to 256 channels on four levels: 2,935,172 parameters for four
            classes and 96 x 96. "small" differs in widths only: 16 to 64, 644,484.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output.
        size: Height and width, multiples of 16.
        code: Numbers that the labels of a slice are brought down to.

    Raises:
        InputError: If a setting is out of range.

    Source: Schlemper et al., MICCAI 2018, LNCS 11070:259, LI-net: encoder Phi, decoder Psi,
    predictor Pi, answer Psi(Pi(u)). Layers, widths and the length of the code are this project's
    choice, since we could not confirm the paper's; strided and transposed convolutions and ReLU
    only, so that it can be bounded. Deviation: one image instead of a sequence.
    """
    if preset not in WIDTHS:
        raise InputError(f"linet: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    if in_channels < 2 or in_channels % 2:
        raise InputError(f"linet: in_channels must be even, two for each coil, got {in_channels}")
    if classes < 2 or code < 1:
        raise InputError(
            f"linet: classes must be at least 2 and code at least 1, got {classes} and {code}"
        )
    grid = check_grid("linet", size, len(WIDTHS[preset]))
    return LiNet(WIDTHS[preset], classes, grid, code)


class LiNet(nn.Module):
    """See `linet`, which builds it.

    Attributes:
        encoder: Phi, labels as one channel for each class to codes.
        decoder: Psi, codes to logits.
        predictor: Pi, complex images to codes.
    """

    def __init__(self, widths: Sequence[int], classes: int, grid: Grid, code: int) -> None:
        super().__init__()
        self.classes, self.grid = classes, grid
        self.encoder = encoder(classes, widths, grid, code, norm="none")
        self.decoder = decoder(classes, widths, grid, code, norm="none")
        self.predictor = encoder(2, widths, grid, code, norm="none")

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, *s, h, w)` to logits `(b, k, *s, h, w)`.

        `*s` is empty for single slices, phase and slice for whole patients.

        Raises:
            InputError: If the context has no mask of these slices, no maps for several coils, or
                the slices are not of the size that it was built for.
        """
        self._check(image)
        seen = zero_filled_slices("linet", image, context)
        logits: Tensor = self.decoder(self.predictor(seen))
        return patients_of(logits, image)

    def encode(self, labels: Tensor) -> Tensor:
        """Codes `(b, code)` of labels `(b, h, w)`.

        Raises:
            InputError: If they are of another size.
        """
        self._check(labels)
        codes: Tensor = self.encoder(one_hot(labels, self.classes))
        return codes

    def fixed(self, mask: Tensor) -> FixedLines:
        """Write the network out for one coil and one set of lines, so that it can be bounded.

        Args:
            mask: `(1, h, w)`, 1 where measured, whole rows only: the case's context entry.

        Raises:
            InputError: If it has another shape, or rows that are measured in part.
        """
        self._check(mask)
        return FixedLines(nn.Sequential(self.predictor, self.decoder), mask)

    def _check(self, image: Tensor) -> None:
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and tuple(image.shape[-2:]) != self.grid:
            raise InputError(
                f"linet: built for slices of {self.grid[0]} x {self.grid[1]}, got "
                f"{tuple(image.shape)}; build it with the size of the cohort"
            )
