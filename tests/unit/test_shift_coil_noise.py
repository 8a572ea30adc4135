"""Noise of coils against its covariance, the noncentral chi law, and a simulation of every coil."""

import math

import pytest
import torch
from scipy import stats

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import to_complex
from robustbench_med.shifts.coil_noise import CoilNoise
from robustbench_med.streams import CaseRng

SIGMA = (0.1, 0.1, 0.1, 0.1, 0.1)


def magnitudes(level, size=200, **settings):
    """Voxels of one level beside one of 1, which sets the unit."""
    image = torch.full((1, 1, size, size), level)
    image[0, 0, 0, 0] = 1
    batch = Batch(("a",), image, torch.zeros(1))
    shift = CoilNoise(sigma=SIGMA, **settings)
    return shift(batch, 1, CaseRng(0, "n", ("a",))).image.flatten()[1:].double()


def test_variance_and_covariance_in_kspace_are_those_asked_over_a_million_samples():
    mask = torch.ones(1, 1, 1000, 1000)
    noise = torch.tensor([0.2])
    image = torch.full((1, 6, 1000, 1000), 3.0)
    batch = Batch(("a",), image, torch.zeros(1), {"mask": mask, "noise": noise})
    found = CoilNoise(correlation=0.4)(batch, 3, CaseRng(0, "n", ("a",)))
    drawn = to_complex(found.image - image).flatten(2)[0]
    covariance = torch.cov(torch.cat([drawn.real, drawn.imag])) / 0.4**2
    expected = torch.full((3, 3), 0.4).fill_diagonal_(1.0)
    torch.testing.assert_close(covariance[:3, :3], expected, atol=0, rtol=0.01)
    torch.testing.assert_close(covariance[3:, 3:], expected, atol=0, rtol=0.01)
    assert covariance[:3, 3:].abs().max() < 0.005
    assert float(found.context["noise"]) == pytest.approx(0.2 * math.sqrt(1 + 2**2))


def test_samples_that_were_not_acquired_stay_0_and_slices_differ():
    mask = torch.ones(2, 1, 1, 8, 6)
    mask[..., ::2, :] = 0
    image = torch.zeros(2, 4, 3, 8, 6)
    batch = Batch(("a", "b"), image, torch.zeros(2), {"mask": mask, "noise": torch.ones(2)})
    found = CoilNoise()(batch, 1, CaseRng(0, "n", ("a", "b"))).image
    assert torch.equal(found != 0, (mask != 0).expand_as(found))
    assert not torch.equal(found[:, :, 0], found[:, :, 1])


@pytest.mark.parametrize("level", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("coils", [1, 4])
def test_without_correlation_magnitudes_follow_the_noncentral_chi_law(level, coils):
    sample = (magnitudes(level, coils=coils, correlation=0.0)[::10] / 0.1) ** 2
    law = stats.ncx2(2 * coils, (level / 0.1) ** 2) if level else stats.chi2(2 * coils)
    assert stats.kstest(sample.numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("level", [0.0, 0.4])
def test_with_correlation_they_are_as_if_every_coil_were_simulated(level):
    coils, shared = 4, 0.5
    found = magnitudes(level, coils=coils, correlation=shared)[::4]
    covariance = torch.full((coils, coils), shared).fill_diagonal_(1.0)
    factor = torch.linalg.cholesky(covariance)
    generator = torch.manual_seed(6)
    noise = 0.1 * factor @ torch.randn(2, coils, 10000, generator=generator)
    seen = torch.complex(level / math.sqrt(coils) + noise[0], noise[1])
    simulated = seen.abs().square().sum(dim=0).sqrt()
    assert stats.ks_2samp(found.numpy(), simulated.numpy()).pvalue > 0.01
    alone = magnitudes(level, coils=coils, correlation=0.0)[::4]
    assert stats.ks_2samp(alone.numpy(), simulated.numpy()).pvalue < 1e-6


def test_the_mean_square_is_that_of_the_image_and_of_all_coils_over_a_million_voxels():
    found = magnitudes(0.2, size=1000, coils=4, correlation=0.6).square().mean()
    assert float(found) == pytest.approx(0.2**2 + 2 * 4 * 0.1**2, rel=0.01)


def test_what_cannot_be_is_refused():
    rng = CaseRng(0, "c", ("0",))
    kspace, mask = torch.ones(1, 4, 8, 8), torch.ones(1, 1, 8, 8)
    with pytest.raises(CaseError, match="has k-space of one; use kspace_noise"):
        CoilNoise()(Batch(("0",), kspace[:, :2], torch.zeros(1), {"mask": mask}), 1, rng)
    with pytest.raises(CaseError, match=r"coil_noise: needs noise in the context, .* got none"):
        CoilNoise()(Batch(("0",), kspace, torch.zeros(1), {"mask": mask}), 1, rng)
    silent = {"mask": mask, "noise": torch.zeros(1)}
    with pytest.raises(CaseError, match=r"needs noise above 0 in the context, .* case '0' has 0"):
        CoilNoise()(Batch(("0",), kspace, torch.zeros(1), silent), 1, rng)
    with pytest.raises(CaseError, match="coil_noise: needs magnitude images"):
        CoilNoise()(Batch(("0",), -kspace, torch.zeros(1)), 1, rng)
    with pytest.raises(InputError, match="correlation must be at least 0 and below 1, got 1"):
        CoilNoise(correlation=1)
    with pytest.raises(InputError, match="coil_noise: multiples must be five numbers"):
        CoilNoise(multiples=2)
