"""NMSE and PSNR against their definitions in numpy."""

import math

import numpy as np
import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.metrics.nmse import Nmse
from robustbench_med.metrics.psnr import Psnr


@pytest.fixture
def pair():
    stream = torch.Generator().manual_seed(0)
    target = torch.rand(4, 2, 5, 6, generator=stream) * torch.tensor([1, 5, 0.1, 3000]).view(
        4, 1, 1, 1
    )
    return target + 0.1 * torch.randn(target.shape, generator=stream), target


def test_nmse_is_the_ratio_of_squared_norms(pair):
    output, target = (x.double().numpy() for x in pair)
    expected = [
        np.linalg.norm(o - t) ** 2 / np.linalg.norm(t) ** 2
        for o, t in zip(output, target, strict=True)
    ]
    np.testing.assert_allclose(Nmse()(*pair).numpy(), expected, rtol=1e-9)


def test_nmse_does_not_depend_on_the_intensity_unit(pair):
    output, target = pair
    torch.testing.assert_close(Nmse()(output * 7, target * 7), Nmse()(output, target))


def test_nmse_is_undefined_for_an_empty_target():
    value = Nmse()(torch.ones(2, 1, 2), torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]]))
    assert math.isnan(value[0])
    assert value[1] == 1


@pytest.mark.parametrize("span", [None, 2.5])
def test_psnr_is_the_log_ratio_of_range_and_mean_squared_error(pair, span):
    output, target = (x.double().numpy() for x in pair)
    expected = [
        20 * np.log10((span or t.max()) / np.sqrt(np.mean((o - t) ** 2)))
        for o, t in zip(output, target, strict=True)
    ]
    np.testing.assert_allclose(Psnr(span)(*pair).numpy(), expected, rtol=1e-9)


def test_psnr_is_infinite_for_equal_images_and_undefined_without_a_range():
    image = torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]]])
    value = Psnr()(image, image)
    assert value[0] == math.inf
    assert math.isnan(value[1])
    assert Psnr(1.0)(image, image)[1] == math.inf


@pytest.mark.parametrize("span", [0.0, -1.0, math.inf, math.nan, True, "1"])
def test_a_range_must_be_finite_and_above_0(span):
    with pytest.raises(InputError, match="data_range must be finite and above 0"):
        Psnr(span)


@pytest.mark.parametrize("metric", [Nmse(), Psnr()])
def test_images_of_different_shapes_are_refused(metric):
    with pytest.raises(InputError, match="of one shape"):
        metric(torch.zeros(2, 1, 4), torch.zeros(2, 1, 5))
