"""What an attack on a reconstruction or a super-resolution raises.

As the metrics do, every objective here takes a complex image, two channels `(b, 2, *t, h, w)`, for
its magnitude, and counts in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.counts import check_counts
from robustbench_med.attacks.objective import require_task
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError

WINDOW = 7
K1, K2 = 0.01, 0.03


@dataclass(frozen=True)
class Nmse:
    """Squared error relative to the target's energy, as the metric `nmse`.

    0 where the target is 0 everywhere.
    """

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        found, true = magnitudes("nmse", output, batch, task)
        power = _sum(true.square())
        return (_sum((found - true).square()) / power.clamp(min=1e-300)).where(power > 0, 0)


@dataclass(frozen=True)
class Dssim:
    """One minus structural similarity, as the metric `ssim` has it: windows of 7 by 7 pixels.

    Attributes:
        data_range: Span of the intensities; None takes the largest of each case's target.

    Source: Wang et al., IEEE TIP 13 (2004) 600, eq. 13; windows and constants as fastMRI's.
    """

    data_range: float | None = None

    def __post_init__(self) -> None:
        value: object = self.data_range
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < (self.data_range or 0) < math.inf):
            raise InputError(f"dssim: data_range must be finite and above 0, got {value!r}")

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the images are smaller than a window.
        """
        found, true = planes("dssim", *magnitudes("dssim", output, batch, task), window=WINDOW)
        span = true.flatten(start_dim=1).amax(dim=1).clamp(min=1e-12)
        if self.data_range is not None:
            span = torch.full_like(span, self.data_range)
        return 1 - _likeness(found, true, span.view(-1, 1, 1, 1)).flatten(start_dim=1).mean(dim=1)


@dataclass(frozen=True)
class LocalLinf:
    """The largest local artefact: the highest mean absolute error of any small window.

    Windows lie within the last two axes; of one pixel, it is the largest error of all.

    Attributes:
        window: Edge of a window, in pixels, at least 1.
    """

    window: int = 5

    def __post_init__(self) -> None:
        check_counts("local_linf", self, "window")

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the images are smaller than a window.
        """
        pair = magnitudes("local_linf", output, batch, task)
        found, true = planes("local_linf", *pair, window=self.window)
        smooth = F.avg_pool2d((found - true).abs(), self.window, stride=1)
        return smooth.flatten(start_dim=1).amax(dim=1)


@dataclass(frozen=True)
class Region:
    """The mean squared error inside a region of the context.

    0 where the region is empty.

    Attributes:
        region: Name of the context entry, not 0 inside: `(b, *s)` or `(b, 1, *s)`, of as many
            voxels as the target's magnitude, or broadcastable to it.
    """

    region: str = "region"

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the context has no such entry, or it does not fit.
        """
        found, true = magnitudes("region", output, batch, task)
        inside = entry("region", self.region, batch, true) != 0
        error = _sum((found - true).square().where(inside, 0))
        return error / inside.flatten(start_dim=1).sum(dim=1).clamp(min=1)


def magnitudes(who: str, output: Tensor, batch: Batch, task: Task) -> tuple[Tensor, Tensor]:
    """Answer and target as magnitudes where they are complex, else as they are; float64.

    Unlike `hypot`, the magnitude has the slope 0 at 0.

    Raises:
        UnsupportedError: If the task's answers are no images.
        InputError: If the shapes differ.
    """
    require_task(who, task, ("reconstruction", "super_resolution"), "task")
    if output.shape != batch.target.shape or output.ndim < 3:
        raise InputError(
            f"{who}: needs an image as output and as target, of one shape, "
            f"got {tuple(output.shape)} and {tuple(batch.target.shape)}"
        )
    return _magnitude(output), _magnitude(batch.target)


def planes(who: str, *images: Tensor, window: int) -> list[Tensor]:
    """Images as `(b, planes, h, w)`.

    Raises:
        InputError: If they are smaller than the window.
    """
    if min(images[0].shape[-2:]) < window:
        raise InputError(
            f"{who}: needs images of at least {window} by {window} pixels, "
            f"got {tuple(images[0].shape)}"
        )
    return [image.reshape(len(image), -1, *image.shape[-2:]) for image in images]


def entry(who: str, name: str, batch: Batch, like: Tensor) -> Tensor:
    """Entry of the context in the shape of the image `like`, float64.

    Raises:
        InputError: If there is none, or it does not fit.
    """
    if name not in batch.context:
        held = ", ".join(batch.context) or "nothing"
        raise InputError(f"{who}: needs {name!r} in the case's context, which has {held}")
    found = batch.context[name].to(like)
    if found.numel() == like.numel():
        return found.reshape(like.shape)
    try:
        return found.expand_as(like)
    except RuntimeError:
        raise InputError(
            f"{who}: {name!r} of shape {tuple(found.shape)} does not fit images {tuple(like.shape)}"
        ) from None


def _magnitude(image: Tensor) -> Tensor:
    image = image.double()
    if image.ndim in (4, 5) and image.shape[1] == 2:
        length: Tensor = torch.linalg.vector_norm(image, dim=1)
        return length
    return image


def _sum(values: Tensor) -> Tensor:
    return values.flatten(start_dim=1).sum(dim=1)


def _likeness(found: Tensor, true: Tensor, span: Tensor) -> Tensor:
    """Similarity of each window, from planes of range `span` `(b, 1, 1, 1)`."""
    mean, mean_true = _window_mean(found), _window_mean(true)
    # Variances as a sample's, divided by one less than the pixels of a window.
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variances = sample * (
        _window_mean(found.square() + true.square()) - mean.square() - mean_true.square()
    )
    covariance = sample * (_window_mean(found * true) - mean * mean_true)
    c1, c2 = (K1 * span).square(), (K2 * span).square()
    light = (2 * mean * mean_true + c1) / (mean.square() + mean_true.square() + c1)
    return light * (2 * covariance + c2) / (variances + c2)


def _window_mean(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, WINDOW, stride=1)
