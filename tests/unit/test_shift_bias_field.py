"""The bias field: a smooth polynomial, shared by channels, drawn per case."""

import numpy as np
import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.shifts.bias_field import BiasField, monomials
from robustbench_med.streams import CaseRng


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def field_of(shape, severity=3.0, shift=None):
    shift = shift or BiasField()
    ids = tuple(map(str, range(shape[0])))
    batch = Batch(ids, torch.ones(shape), torch.zeros(shape[0]))
    return shift(batch, severity, CaseRng(0, "f", ids)).image


@pytest.mark.parametrize(("space", "terms"), [((7,), 3), ((5, 6), 9), ((4, 5, 6), 19)])
def test_there_is_one_term_for_each_power_up_to_the_order(space, terms):
    found = monomials(space, 3)
    assert found.shape == (terms, *space)
    assert (
        np.linalg.matrix_rank(found.flatten(start_dim=1).numpy()) == min(terms, np.prod(space))
        or min(space) <= 3
    )
    assert found.abs().max() <= 1


def test_the_logarithm_is_a_polynomial_of_bounded_coefficients():
    log_field = field_of((6, 1, 21, 17)).log().flatten(start_dim=1).double()
    terms = monomials((21, 17), 3).flatten(start_dim=1).double()
    solved = torch.linalg.lstsq(terms.T, log_field.T)
    torch.testing.assert_close(terms.T @ solved.solution, log_field.T, atol=1e-5, rtol=0)
    assert solved.solution.abs().max() <= 3 * 0.1 + 1e-3
    assert solved.solution.abs().max() > 0.15


def test_the_field_is_1_at_the_centre_and_the_same_for_all_channels():
    field = field_of((4, 3, 9, 11))
    torch.testing.assert_close(field[:, :, 4, 5], torch.ones(4, 3))
    assert torch.equal(field[:, 0], field[:, 2])
    assert not torch.equal(field[0], field[1])


def test_the_image_is_multiplied_and_severity_scales_the_logarithm():
    batch = Batch(("a",), torch.rand(1, 1, 6, 6) - 0.5, torch.zeros(1))
    moved = BiasField()(batch, 3.0, CaseRng(0, "f", ("a",))).image
    again = field_of((1, 1, 6, 6))
    other = BiasField()(Batch(("0",), batch.image, batch.target), 3.0, CaseRng(0, "f", ("0",)))
    torch.testing.assert_close(other.image, batch.image * again)
    assert torch.equal(moved.sign(), batch.image.sign())
    torch.testing.assert_close(
        field_of((1, 1, 6, 6), 2.0).log() * 2, field_of((1, 1, 6, 6), 4.0).log()
    )


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="order must be a whole number, at least 1, got 0"):
        BiasField(order=0)
    with pytest.raises(InputError, match="coefficient must be five numbers above 0"):
        BiasField(coefficient=0)
    with pytest.raises(UnsupportedError, match="needs images with a spatial axis"):
        field_of((2, 3))
