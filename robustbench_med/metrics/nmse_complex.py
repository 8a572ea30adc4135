"""Squared error of a complex image, relative to the true image."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.metrics.error import complex_parts, energy
from robustbench_med.probes import Better


@dataclass(frozen=True)
class NmseComplex:
    """`|output - target|^2 / |target|^2` of complex images; 0 is perfect.

    An error of phase counts, so values are no lower than those of `nmse`, which compares
    magnitudes, and the two must not be set side by side.

    Source: Schlemper et al., IEEE TMI 37 (2018), whose error is of complex values;
        normalised here.
    """

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, 2 c, *s)`, channels alternate real and imaginary part.
            target: Of the same shape.

        Returns:
            `(b,)`, at least 0; NaN where the target is 0 everywhere.

        Raises:
            InputError: If the shapes differ, or channels do not come in pairs.
        """
        found, true = complex_parts("nmse_complex", output, target)
        power = energy(true)
        return (energy(found - true) / power).where(power > 0, torch.nan)
