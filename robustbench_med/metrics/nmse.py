"""Squared error of an image, relative to the true image."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.metrics.error import energy, magnitudes
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Nmse:
    """Normalised mean squared error, `|output - target|^2 / |target|^2`; 0 is perfect.

    Of magnitudes: a complex image, two channels `(b, 2, *t, h, w)`, is compared by its magnitude,
    so that an error of phase costs nothing; `nmse_complex` counts it.

    Source: Zbontar et al., 2018, section on evaluation (fastMRI), arXiv:1811.08839.
    """

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, *s)`, any shape per case; `(b, 2, *t, h, w)` holds real and imaginary part.
            target: Of the same shape.

        Returns:
            `(b,)`, at least 0; NaN where the target is 0 everywhere.

        Raises:
            InputError: If the shapes differ.
        """
        found, true = magnitudes("nmse", output, target)
        power = energy(true)
        return (energy(found - true) / power).where(power > 0, torch.nan)
