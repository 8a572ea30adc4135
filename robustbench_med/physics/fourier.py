"""The Fourier transform of MR, and complex numbers as real channels."""

import torch
from torch import Tensor

from robustbench_med.errors import InputError

AXES = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Transform an image to k-space, both centred: the origin stands at `(h // 2, w // 2)`.

    Orthonormal, so that it keeps norms and its inverse is its adjoint.

    Args:
        image: Complex or real, `(..., h, w)`.

    Returns:
        Complex, of the same shape.
    """
    spectrum = torch.fft.fft2(torch.fft.ifftshift(image, dim=AXES), norm="ortho")
    kspace: Tensor = torch.fft.fftshift(spectrum, dim=AXES)
    return kspace


def ifft2c(kspace: Tensor) -> Tensor:
    """Transform k-space to an image: the inverse, and the adjoint, of `fft2c`."""
    spread = torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=AXES), norm="ortho")
    image: Tensor = torch.fft.fftshift(spread, dim=AXES)
    return image


def to_complex(channels: Tensor) -> Tensor:
    """Join real channels to complex numbers: `2 i` is the real, `2 i + 1` the imaginary part.

    Args:
        channels: Real, `(b, 2 c, *s)`.

    Returns:
        Complex, `(b, c, *s)`.

    Raises:
        InputError: If the number of channels is odd, or they are no real floating-point numbers.
    """
    if channels.ndim < 2 or channels.shape[1] % 2 or not channels.is_floating_point():
        raise InputError(
            "complex data: expected real channels (b, 2 c, ...), real and imaginary parts in "
            f"turn, got {channels.dtype} {tuple(channels.shape)}"
        )
    return torch.complex(channels[:, 0::2], channels[:, 1::2])


def to_channels(values: Tensor) -> Tensor:
    """Split complex numbers `(b, c, *s)` into real channels `(b, 2 c, *s)`; undoes `to_complex`."""
    return torch.view_as_real(values).movedim(-1, 2).flatten(1, 2)
