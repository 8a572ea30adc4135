"""Peak signal against mean error of a complex image, in decibels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.metrics.error import complex_parts, energy
from robustbench_med.metrics.magnitude import span
from robustbench_med.probes import Better


@dataclass(frozen=True)
class PsnrComplex:
    """`10 log10(max |target|^2 / mean |output - target|^2)` of complex images.

    Both the mean and the maximum go over complex values, whose error of phase counts. Values
    are therefore no higher than those of `psnr`, which compares magnitudes, and the two must
    not be set side by side.

    Source: Schlemper et al., IEEE TMI 37 (2018), the convention of the authors' code.
    """

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = "dB"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, 2 c, *s)`, channels alternate real and imaginary part.
            target: Of the same shape.

        Returns:
            `(b,)`, in dB; infinite where the images are equal, NaN where the target is 0
            everywhere.

        Raises:
            InputError: If the shapes differ, or channels do not come in pairs.
        """
        found, true = complex_parts("psnr_complex", output, target)
        size = true.square().sum(dim=2).sqrt()
        error = energy(found - true) / size.shape[1:].numel()
        return 10 * torch.log10(span(size, None).square() / error)
