"""Rounding to grey levels against its closed forms."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.quantise import Quantise
from robustbench_med.streams import CaseRng


def batch_of(image, **context):
    ids = tuple(f"c{i}" for i in range(len(image)))
    return Batch(ids, image, torch.zeros(len(image)), context)


def shift(image, severity, quantise=None):
    batch = batch_of(image)
    return (quantise or Quantise())(batch, severity, CaseRng(0, "q", batch.case_ids)).image


def uniform(size=400):
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("severity", "bits"), [(1, 7), (2, 6), (3, 5), (4, 4), (5, 3)])
def test_the_levels_are_bits_and_both_ends_of_the_range_stay(severity, bits):
    image = 30 + 900 * uniform()
    found = shift(image, float(severity))
    assert len(found.unique()) == 2**bits
    assert torch.equal(torch.stack(found.aminmax()), torch.stack(image.aminmax()))


def test_the_error_has_the_variance_of_a_twelfth_of_the_squared_step():
    image = torch.cat([uniform(1000).view(-1), torch.tensor([0.0, 1.0])]).view(1, 1, -1)
    error = shift(image, 2.0) - image
    assert error.square().mean().item() == pytest.approx((1 / 63) ** 2 / 12, rel=0.01)
    assert error.abs().max().item() <= 0.5 / 63 + 1e-6


def test_grey_levels_that_are_there_already_stay():
    image = (torch.arange(16.0) / 15).view(1, 1, 4, 4)
    torch.testing.assert_close(shift(image, 4.0), image)


def test_a_step_that_does_not_fill_the_range_never_leaves_it():
    step = 0.35  # levels at 0, 0.35, 0.7 and, cut off, 1
    found = shift(uniform(), 1.0, Quantise((step,) * 5))
    assert len(found.unique()) == 4
    assert found.max() == uniform().max()


def test_a_constant_image_and_a_step_of_0_change_nothing():
    flat = torch.full((1, 1, 4, 4), 3.0)
    assert torch.equal(shift(flat, 5.0), flat)
    image = uniform(8)
    assert torch.equal(Quantise().apply(batch_of(image), {"step": torch.zeros(1)}).image, image)


def test_each_case_has_its_own_step():
    image = uniform(20).expand(2, -1, -1, -1)
    both = Quantise().apply(batch_of(image), {"step": torch.tensor([1 / 3, 1 / 7])}).image
    assert [len(one.unique()) for one in both] == [4, 8]


def test_kspace_and_levels_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="quantise: step must be five numbers"):
        Quantise((0.1, 0.2))
    batch = batch_of(uniform(4), mask=torch.ones(1, 1, 4, 4))
    with pytest.raises(CaseError, match=r"quantise: .*k-space"):
        Quantise()(batch, 1.0, CaseRng(0, "q", batch.case_ids))
