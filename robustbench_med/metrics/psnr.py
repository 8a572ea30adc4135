"""Peak signal against mean error, in decibels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.metrics.error import energy, magnitudes
from robustbench_med.metrics.magnitude import require_range, span
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Psnr:
    """Peak signal-to-noise ratio, `10 log10(range^2 / mean squared error)`, of magnitude images.

    A complex image, two channels `(b, 2, *t, h, w)`, is compared by its magnitude; `psnr_complex`
    compares complex values.

    Attributes:
        data_range: Span of the intensities, in their unit; None takes the largest intensity of
            each case's target, which assumes magnitudes: images that are at least 0.

    Source: Zbontar et al., 2018, section on evaluation (fastMRI), arXiv:1811.08839.
    """

    data_range: float | None = None

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = "dB"

    def __post_init__(self) -> None:
        require_range("psnr", self.data_range)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, *s)`, any shape per case; `(b, 2, *t, h, w)` holds real and imaginary part.
            target: Of the same shape.

        Returns:
            `(b,)`, in dB; infinite where the images are equal, NaN where the target has no
            positive intensity and no range is set.

        Raises:
            InputError: If the shapes differ.
        """
        found, true = magnitudes("psnr", output, target)
        error = energy(found - true) / true.shape[1:].numel()
        return 10 * torch.log10(span(true, self.data_range).square() / error)
