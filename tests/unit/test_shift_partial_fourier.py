"""Partial Fourier against the kernel of an uneven cut, and what must stay."""

import numpy as np
import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.partial_fourier import PartialFourier
from robustbench_med.streams import CaseRng


def batch_of(image, **context):
    return Batch(tuple(map(str, range(len(image)))), image, torch.zeros(len(image)), context)


def cut(image, missing, shift=None, **context):
    missing = torch.tensor([missing] * len(image))
    return (shift or PartialFourier()).apply(batch_of(image, **context), {"missing": missing})


@pytest.mark.parametrize(
    ("missing", "first", "last"),
    [(0.25, -12, 5), (-0.25, -6, 11), (0.4, -12, 1), (0.0, -12, 11)],
)
def test_a_point_becomes_the_kernel_of_the_lines_that_are_left(missing, first, last):
    image = torch.zeros(1, 1, 24, 8, dtype=torch.float64)
    image[0, 0, 12, 3] = 1
    found = cut(image, missing).image[0, 0]
    turn = 2j * np.pi * (np.arange(24) - 12) / 24
    kernel = np.exp(np.outer(turn, np.arange(first, last + 1))).sum(axis=1) / 24
    np.testing.assert_allclose(found[:, 3], np.abs(kernel), atol=1e-12)
    assert float(found.sum() - found[:, 3].sum()) == pytest.approx(0, abs=1e-12)


def test_in_kspace_samples_and_mask_end_at_the_same_line_and_the_rest_stays():
    mask = torch.ones(2, 1, 3, 20, 6)
    mask[:, :, :, ::3] = 0
    kspace = torch.randn(2, 4, 3, 20, 6) * mask
    for missing, kept in ((0.3, slice(14)), (-0.3, slice(6, 20)), (0.26, slice(15))):
        found = cut(kspace, missing, mask=mask, noise=torch.ones(2))
        inside = torch.zeros_like(mask)
        inside[..., kept, :] = 1
        assert torch.equal(found.image, kspace * inside)
        assert torch.equal(found.context["mask"], mask * inside)
        assert torch.equal(found.context["noise"], torch.ones(2))


def test_an_image_is_what_becomes_of_its_kspace_and_loses_the_energy_of_the_cut():
    image = torch.rand(3, 2, 24, 20, dtype=torch.float64)
    kspace = to_channels(fft2c(image))
    moved = cut(kspace, 0.33, mask=torch.ones(3, 1, 24, 20)).image
    found = cut(image, 0.33).image
    torch.testing.assert_close(found, ifft2c(to_complex(moved)).abs())
    power = found.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(power, kspace[:, :, :16].square().sum(dim=(1, 2, 3)))
    turned = cut(image.mT, 0.33, PartialFourier(lines="columns")).image
    torch.testing.assert_close(turned.mT, found)


def test_more_than_half_of_the_lines_of_a_real_image_hold_all_of_it():
    """Hermitian symmetry: the lines that are left out are the others' conjugates."""
    image = torch.rand(1, 1, 15, 8, dtype=torch.float64)
    mask = torch.ones(1, 1, 15, 8)
    kspace = to_complex(cut(to_channels(fft2c(image)), 0.45, mask=mask).image)
    mirrored = kspace.flip(2).flip(3).roll(1, 3).conj()
    torch.testing.assert_close(
        kspace.where(kspace != 0, mirrored), fft2c(image), atol=1e-9, rtol=1e-9
    )


def test_each_case_leaves_out_one_end_alike_at_every_severity():
    mask = torch.ones(200, 1, 20, 2)
    batch = batch_of(torch.ones(200, 2, 20, 2), mask=mask)
    two, five = (
        PartialFourier()(batch, v, CaseRng(1, f"p@{v}", batch.case_ids)).context["mask"]
        for v in (2, 5)
    )
    assert {*two.sum(dim=(1, 2, 3)).tolist()} == {2 * 17}
    assert {*five.sum(dim=(1, 2, 3)).tolist()} == {2 * 12}
    assert (five <= two).all()
    assert 70 < int((two[:, 0, 0, 0] == 0).sum()) < 130


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"missing must be below 0\.5, so that k-space's centre"):
        PartialFourier([0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(InputError, match="partial_fourier: lines must be rows or columns"):
        PartialFourier(lines="x")
    mask = torch.zeros(1, 1, 8, 8)
    mask[:, :, 7] = 1
    with pytest.raises(CaseError, match="'0' has no acquired sample: all were left out"):
        cut(torch.zeros(1, 2, 8, 8), 0.2, mask=mask)
    with pytest.raises(CaseError, match="partial_fourier: needs magnitude images"):
        cut(-torch.ones(1, 1, 8, 8), 0.2)
