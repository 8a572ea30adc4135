"""The gamma curve: exponents, fixed points and directions."""

import math

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.gamma import Gamma
from robustbench_med.streams import CaseRng


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def shift(gamma, image, severity=2.0):
    ids = tuple(f"c{i}" for i in range(len(image)))
    batch = Batch(ids, image, torch.zeros(len(image)))
    return gamma(batch, severity, CaseRng(0, "g", ids)).image


@pytest.mark.parametrize(("direction", "sign"), [("brighter", -1), ("darker", 1)])
def test_intensities_are_raised_to_the_exponent_of_the_direction(direction, sign):
    image = torch.rand(3, 1, 5, 5)
    image[:, :, 0, 0] = 1.0
    found = shift(Gamma((0.2, 0.4, 0.6, 0.8, 1.0), direction), image)
    torch.testing.assert_close(found, image ** math.exp(sign * 0.4))
    assert (sign * (image - found) >= -1e-6).all()


def test_intensity_units_do_not_matter_and_the_range_is_kept():
    image = torch.rand(2, 2, 6, 6)
    small, large = shift(Gamma(), image), shift(Gamma(), 4000 * image)
    torch.testing.assert_close(large, 4000 * small, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(small.amax(dim=(1, 2, 3)), image.amax(dim=(1, 2, 3)))
    assert shift(Gamma(), torch.zeros(1, 1, 3, 3)).abs().max() == 0


def test_random_directions_are_drawn_per_case_with_equal_chance():
    image = torch.tensor([0.5, 1.0]).view(1, 1, 2).expand(400, 1, 2)
    brighter = (shift(Gamma(), image)[:, 0, 0] > 0.5).float().mean().item()
    assert brighter == pytest.approx(0.5, abs=0.08)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="direction must be one of brighter, darker, random"):
        Gamma(direction="up")
    with pytest.raises(InputError, match="gamma: log_gamma must be five numbers above 0"):
        Gamma(0.0)
    with pytest.raises(CaseError, match="gamma: needs magnitude images"):
        shift(Gamma(), torch.full((1, 1, 2), -1.0))
