"""Blur against scipy's Gaussian filter."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.shifts.blur import Blur, gaussian_matrix
from robustbench_med.streams import CaseRng


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def blurred(image, severity=2.0, sigma=0.5):
    ids = tuple(map(str, range(len(image))))
    levels = [sigma * level for level in range(1, 6)]
    return Blur(levels)(Batch(ids, image, image), severity, CaseRng(0, "b", ids)).image


@pytest.mark.parametrize("sigma", [0.25, 0.6, 1.75, 6.0])
@pytest.mark.parametrize("shape", [(2, 1, 9, 13), (1, 3, 16, 16), (1, 1, 3, 8, 10)])
def test_each_slice_agrees_with_scipy(shape, sigma):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # scipy rounds its cut to the nearest voxel; ours must never be nearer than four sigma.
    cut = int(np.ceil(4 * sigma))
    sigmas = (0,) * (image.ndim - 2) + (sigma, sigma)
    expected = ndimage.gaussian_filter(image.numpy(), sigmas, mode="mirror", radius=cut)
    found = blurred(image, severity=1.0, sigma=sigma)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_constants_and_range_are_kept():
    torch.testing.assert_close(
        blurred(torch.full((1, 1, 5, 7), 0.3)), torch.full((1, 1, 5, 7), 0.3)
    )
    image = torch.rand(2, 1, 8, 8)
    assert blurred(image).max() <= image.max()
    assert blurred(image).min() >= image.min()


def test_sigma_is_that_of_the_severity_and_a_tiny_one_changes_nothing():
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(blurred(image, 4.0, 0.5), blurred(image, 2.0, 1.0))
    torch.testing.assert_close(blurred(image, 1e-9), image)


def test_an_axis_of_one_voxel_stays_as_it_is():
    assert gaussian_matrix(1, 2.0).tolist() == [[pytest.approx(1.0)]]


def test_what_cannot_be_blurred_is_refused():
    with pytest.raises(UnsupportedError, match="two or more spatial axes"):
        blurred(torch.rand(1, 1, 8))
    with pytest.raises(InputError, match="blur: sigma must be five numbers above 0"):
        Blur(-0.5)
