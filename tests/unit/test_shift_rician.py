"""Rician noise against its closed-form moments."""

import pytest
import torch
from scipy import stats

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.rician import Rician
from robustbench_med.streams import CaseRng


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def levels_of(first):
    return [first * severity for severity in range(1, 6)]


def noisy(level, sigma):
    batch = Batch(("a",), torch.full((1, 1, 200, 200), level), torch.tensor([0]))
    return Rician(levels_of(sigma))(batch, 1.0, CaseRng(0, "r", batch.case_ids)).image.flatten()


@pytest.mark.parametrize("level", [0.0, 0.1, 0.8])
def test_intensities_follow_the_rice_law(level):
    sample = noisy(level, 0.1)[::10].numpy()
    assert stats.kstest(sample, stats.rice(level / 0.1, scale=0.1).cdf).pvalue > 0.01


def test_background_rises_to_the_rayleigh_mean_and_second_moments_add():
    assert noisy(0.0, 0.1).mean().item() == pytest.approx(0.1 * (torch.pi / 2) ** 0.5, rel=0.01)
    assert noisy(0.5, 0.1).square().mean().item() == pytest.approx(0.25 + 2 * 0.01, rel=0.01)


def test_sigma_is_that_of_the_severity_and_in_a_line_between():
    batch = Batch(("a",), torch.rand(1, 1, 8, 8), torch.tensor([0]))
    shift = Rician([0.01, 0.02, 0.04, 0.04, 0.25])
    for severity, sigma in ((2.0, 0.02), (2.5, 0.03), (5.0, 0.25)):
        found = shift(batch, severity, CaseRng(0, "r", ("a",))).image
        alike = Rician(levels_of(sigma))(batch, 1.0, CaseRng(0, "r", ("a",))).image
        torch.testing.assert_close(found, alike)


def test_images_that_are_no_magnitudes_are_refused_by_case():
    image = torch.zeros(2, 1, 2, 2)
    image[1, 0, 0, 0] = -0.25
    batch = Batch(("good", "bad"), image, torch.zeros(2))
    with pytest.raises(CaseError, match=r"case 'bad' goes down to -0\.25"):
        Rician()(batch, 1.0, CaseRng(0, "r", batch.case_ids))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), True, "0.1"])
def test_a_setting_that_is_no_five_levels_is_refused(sigma):
    with pytest.raises(InputError, match="rician: sigma must be five numbers above 0"):
        Rician(sigma)
