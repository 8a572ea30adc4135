"""NMSE, PSNR and SSIM against numpy and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from robustbench_med.errors import InputError
from robustbench_med.metrics.nmse import Nmse
from robustbench_med.metrics.nmse_complex import NmseComplex
from robustbench_med.metrics.psnr import Psnr
from robustbench_med.metrics.psnr_complex import PsnrComplex
from robustbench_med.metrics.ssim import Ssim


@pytest.fixture
def pair():
    stream = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 8, 9, generator=stream) * torch.tensor([1, 5, 0.1, 3000]).view(
        4, 1, 1, 1
    )
    return target + 0.1 * torch.randn(target.shape, generator=stream), target


@pytest.fixture
def complex_pair():
    stream = torch.Generator().manual_seed(1)
    target = torch.randn(3, 2, 8, 9, generator=stream)
    return target + 0.3 * torch.randn(target.shape, generator=stream), target


def as_complex(pair):
    return [image[:, 0].numpy() + 1j * image[:, 1].numpy() for image in (x.double() for x in pair)]


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


@pytest.mark.parametrize("metric", [Nmse(), Psnr(), Psnr(2.0), Ssim(), Ssim(2.0)])
def test_a_metric_of_magnitudes_reads_two_channels_as_one_complex_image(metric, complex_pair):
    magnitudes = [torch.tensor(abs(image)) for image in as_complex(complex_pair)]
    torch.testing.assert_close(metric(*complex_pair), metric(*magnitudes))
    output, target = complex_pair
    turned = torch.stack([-output[:, 1], output[:, 0]], dim=1)
    torch.testing.assert_close(metric(turned, target), metric(output, target))


@pytest.mark.parametrize("metric", [Nmse(), Psnr(2.0), Ssim(2.0)])
def test_other_shapes_are_taken_as_they_are(metric):
    stream = torch.Generator().manual_seed(2)
    for shape in ((2, 1, 8, 8), (2, 3, 8, 8), (2, 3, 3, 8, 8), (2, 8, 8)):
        image = torch.rand(shape, generator=stream) + 0.1
        assert not torch.allclose(metric(-image, image), metric(image, image))


def test_complex_metrics_count_the_error_of_phase(complex_pair):
    output, target = as_complex(complex_pair)
    error, power = abs(output - target) ** 2, abs(target) ** 2
    nmse = error.sum(axis=(1, 2)) / power.sum(axis=(1, 2))
    psnr = 10 * np.log10(power.max(axis=(1, 2)) / error.mean(axis=(1, 2)))
    np.testing.assert_allclose(NmseComplex()(*complex_pair), nmse, rtol=1e-9)
    np.testing.assert_allclose(PsnrComplex()(*complex_pair), psnr, rtol=1e-9)
    assert (NmseComplex()(*complex_pair) > Nmse()(*complex_pair)).all()
    assert (PsnrComplex()(*complex_pair) < Psnr()(*complex_pair)).all()


def test_complex_metrics_take_several_images_and_are_undefined_for_nothing(complex_pair):
    output, target = (torch.cat([image, 2 * image], dim=1) for image in complex_pair)
    torch.testing.assert_close(NmseComplex()(output, target), NmseComplex()(*complex_pair))
    lower = 10 * math.log10((1 + 4) / 2 / 4)
    torch.testing.assert_close(PsnrComplex()(output, target), PsnrComplex()(*complex_pair) - lower)
    nothing = torch.zeros(1, 2, 3, 3)
    assert NmseComplex()(nothing, nothing).isnan().all()
    assert PsnrComplex()(nothing, nothing).isnan().all()
    assert PsnrComplex()(nothing + 1, nothing + 1).item() == math.inf


@pytest.mark.parametrize("metric", [NmseComplex(), PsnrComplex()])
def test_channels_of_a_complex_image_come_in_pairs(metric):
    for shape in ((2, 3, 4, 4), (2, 2)):
        with pytest.raises(InputError, match=r"pairs of channels \(re, im\)"):
            metric(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("span", [None, 2.5])
@pytest.mark.parametrize("shape", [(3, 1, 9, 12), (2, 1, 4, 16, 11), (2, 3, 8, 8), (2, 7, 7)])
def test_ssim_is_that_of_scikit_image(shape, span):
    stream = torch.Generator().manual_seed(3)
    target = torch.rand(shape, generator=stream).cumsum(dim=-1)
    output = target + 0.5 * torch.randn(shape, generator=stream)
    expected = []
    for o, t in zip(output.double().numpy(), target.double().numpy(), strict=True):
        slices = zip(o.reshape(-1, *shape[-2:]), t.reshape(-1, *shape[-2:]), strict=True)
        found = [
            structural_similarity(a, b, win_size=7, data_range=span or t.max()) for a, b in slices
        ]
        expected.append(np.mean(found))
    np.testing.assert_allclose(Ssim(span)(output, target), expected, rtol=1e-9)


def test_ssim_is_1_for_equal_images_and_undefined_without_a_range():
    image = torch.rand(2, 1, 8, 8) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    value = Ssim()(image, image)
    assert value[0].item() == pytest.approx(1)
    assert math.isnan(value[1])


def test_ssim_needs_room_for_a_window():
    for shape in ((2, 1, 6, 9), (2, 1, 9, 6), (2, 9)):
        with pytest.raises(InputError, match="at least 7 by 7 pixels"):
            Ssim()(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("metric", [Psnr, Ssim])
@pytest.mark.parametrize("span", [0.0, -1.0, math.inf, math.nan, True, "1"])
def test_a_range_must_be_finite_and_above_0(metric, span):
    with pytest.raises(InputError, match="data_range must be finite and above 0"):
        metric(span)


@pytest.mark.parametrize("metric", [Nmse(), NmseComplex(), Psnr(), PsnrComplex(), Ssim()])
def test_images_of_different_shapes_are_refused(metric):
    with pytest.raises(InputError, match="of one shape"):
        metric(torch.zeros(2, 1, 4), torch.zeros(2, 1, 5))
