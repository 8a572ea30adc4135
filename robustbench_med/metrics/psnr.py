"""Peak signal against mean error, in decibels."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.error import squared_error
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Psnr:
    """Peak signal-to-noise ratio, `10 log10(range^2 / mean squared error)`, of magnitude images.

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
        span: object = self.data_range
        legal = isinstance(span, (int, float)) and not isinstance(span, bool) and 0 < span < inf
        if span is not None and not legal:
            raise InputError(f"psnr: data_range must be finite and above 0, got {span!r}")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, *s)`, any shape per case.
            target: Of the same shape.

        Returns:
            `(b,)`, in dB; infinite where the images are equal, NaN where the target has no
            positive intensity and no range is set.

        Raises:
            InputError: If the shapes differ.
        """
        error = squared_error("psnr", output, target).mean(dim=1)
        if self.data_range is None:
            span = target.double().flatten(start_dim=1).amax(dim=1)
        else:
            span = torch.full_like(error, self.data_range)
        return (10 * torch.log10(span.square() / error)).where(span > 0, float("nan"))
