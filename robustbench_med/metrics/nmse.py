"""Squared error of an image, relative to the true image."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_med.metrics.error import squared_error
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Nmse:
    """Normalised mean squared error, `|output - target|^2 / |target|^2`; 0 is perfect.

    Source: Zbontar et al., 2018, section on evaluation (fastMRI), arXiv:1811.08839.
    """

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, *s)`, any shape per case; real and imaginary parts may be channels.
            target: Of the same shape.

        Returns:
            `(b,)`, at least 0; NaN where the target is 0 everywhere.

        Raises:
            InputError: If the shapes differ.
        """
        error = squared_error("nmse", output, target)
        power = target.double().square().flatten(start_dim=1).sum(dim=1)
        return (error.sum(dim=1) / power).where(power > 0, float("nan"))
