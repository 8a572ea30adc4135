"""Likeness of structure in small windows."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.metrics.error import magnitudes
from robustbench_med.metrics.magnitude import require_range, span
from robustbench_med.probes import Better

WINDOW = 7
K1, K2 = 0.01, 0.03


@dataclass(frozen=True)
class Ssim:
    """Structural similarity of magnitude images; 1 where they are equal.

    Means, variances and the covariance are those of each window of 7 by 7 pixels that lies
    within the last two axes; the value is the mean over all windows of the case. A complex
    image, two channels `(b, 2, *t, h, w)`, is compared by its magnitude.

    Attributes:
        data_range: Span of the intensities, in their unit; None takes the largest intensity of
            each case's target, over all its slices.

    Source: Wang et al., IEEE TIP 13 (2004) 600, eq. 13; windows, constants and range as fastMRI
        has them (Zbontar et al., 2018, arXiv:1811.08839).
    """

    data_range: float | None = None

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        require_range("ssim", self.data_range)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, ..., h, w)`, at least 7 by 7 pixels; `(b, 2, *t, h, w)` is complex.
            target: Of the same shape.

        Returns:
            `(b,)`, at most 1; NaN where the target has no positive intensity and no range is
            set.

        Raises:
            InputError: If the shapes differ, or the images are smaller than a window.
        """
        found, true = magnitudes("ssim", output, target)
        if true.ndim < 3 or min(true.shape[-2:]) < WINDOW:
            raise InputError(
                f"ssim: needs images of at least {WINDOW} by {WINDOW} pixels, "
                f"got {tuple(target.shape)}"
            )
        slices = (len(true), -1, *true.shape[-2:])
        found, true = found.reshape(slices), true.reshape(slices)
        return _likeness(found, true, span(true, self.data_range)).flatten(start_dim=1).mean(dim=1)


def _likeness(found: Tensor, true: Tensor, width: Tensor) -> Tensor:
    """Similarity of each window, from images `(b, slices, h, w)` of range `width` `(b,)`."""
    mean, mean_true = _window_mean(found), _window_mean(true)
    # Variances as a sample's, divided by one less than the pixels of a window.
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variance = sample * (_window_mean(found.square()) - mean.square())
    variance_true = sample * (_window_mean(true.square()) - mean_true.square())
    covariance = sample * (_window_mean(found * true) - mean * mean_true)
    c1, c2 = ((k * width).square().view(-1, 1, 1, 1) for k in (K1, K2))
    likeness = (2 * mean * mean_true + c1) * (2 * covariance + c2)
    return likeness / ((mean.square() + mean_true.square() + c1) * (variance + variance_true + c2))


def _window_mean(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, WINDOW, stride=1)
