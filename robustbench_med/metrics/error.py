"""The difference between an image and the true one."""

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.magnitude import magnitude


def magnitudes(who: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both images as magnitudes where they are complex, else as they are; float64.

    Raises:
        InputError: If the shapes differ, naming the metric `who`.
    """
    _require_alike(who, output, target)
    return magnitude(output), magnitude(target)


def complex_parts(who: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both images with a part axis, `(b, c, 2, *s)`, float64; channels alternate re and im.

    Raises:
        InputError: If the shapes differ or channels do not come in pairs, naming the metric.
    """
    _require_alike(who, output, target)
    if target.ndim < 3 or target.shape[1] % 2:
        raise InputError(
            f"{who}: needs complex images as pairs of channels (re, im), (b, 2 c, *s), "
            f"got {tuple(target.shape)}"
        )
    pairs = (len(target), target.shape[1] // 2, 2, *target.shape[2:])
    return output.double().reshape(pairs), target.double().reshape(pairs)


def energy(image: Tensor) -> Tensor:
    """Sum of squares of each case, `(b,)`."""
    return image.square().flatten(start_dim=1).sum(dim=1)


def _require_alike(who: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape or output.ndim < 2:
        raise InputError(
            f"{who}: needs an image as output and as target, of one shape, "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
