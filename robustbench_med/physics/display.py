"""How magnitudes become the intensities that a network of images is given."""

from torch import Tensor

BRIGHTEST = 0.995  # quantile of the magnitudes that becomes 1


def to_unit(magnitude: Tensor) -> Tensor:
    """Divide each case `(b, *s)` by its brightest half percent and cut off at 1; to [0, 1]."""
    values = magnitude.flatten(start_dim=1)
    brightest = values.kthvalue(max(1, int(BRIGHTEST * values.shape[1])), dim=1).values
    like = (-1, *[1] * (magnitude.ndim - 1))
    return (magnitude / brightest.clamp(min=1e-12).view(like)).clamp(0, 1)
