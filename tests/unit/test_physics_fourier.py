"""The transform of MR against numpy, its own adjoint and Parseval."""

import numpy as np
import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex

SHAPES = [(8, 8), (7, 6), (5, 9)]


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_agrees_with_numpy_in_both_directions(shape):
    image = drawn(2, 3, *shape)
    for ours, theirs in ((fft2c, np.fft.fft2), (ifft2c, np.fft.ifft2)):
        shifted = np.fft.ifftshift(image.numpy(), axes=(-2, -1))
        expected = np.fft.fftshift(theirs(shifted, norm="ortho"), axes=(-2, -1))
        np.testing.assert_allclose(ours(image).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_is_the_same_image_and_keeps_its_norm(shape):
    image = drawn(2, *shape)
    torch.testing.assert_close(ifft2c(fft2c(image)), image)
    torch.testing.assert_close(fft2c(ifft2c(image)), image)
    torch.testing.assert_close(fft2c(image).norm(), image.norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inverse_is_the_adjoint(shape):
    image, kspace = drawn(*shape), drawn(*shape, seed=1)
    left = torch.vdot(kspace.flatten(), fft2c(image).flatten())
    right = torch.vdot(ifft2c(kspace).flatten(), image.flatten())
    assert abs(left - right) < 1e-10


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_image_has_its_whole_signal_in_the_middle_row_and_column(shape):
    height, width = shape
    expected = torch.zeros(shape, dtype=torch.complex128)
    expected[height // 2, width // 2] = (height * width) ** 0.5
    torch.testing.assert_close(fft2c(torch.ones(shape, dtype=torch.float64)), expected)


def test_real_channels_are_real_and_imaginary_parts_in_turn_and_back():
    channels = torch.arange(2 * 4 * 3.0).view(2, 4, 3)
    values = to_complex(channels)
    assert values.shape == (2, 2, 3)
    assert values[1, 1, 0] == torch.complex(channels[1, 2, 0], channels[1, 3, 0])
    assert torch.equal(to_channels(values), channels)
    assert torch.equal(to_complex(to_channels(drawn(2, 3, 4, 5))), drawn(2, 3, 4, 5))


@pytest.mark.parametrize(
    "channels",
    [torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.complex64), torch.zeros(2)],
)
def test_what_is_no_pair_of_real_channels_is_refused(channels):
    with pytest.raises(InputError, match="expected real channels"):
        to_complex(channels)
