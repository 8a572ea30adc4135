"""k-space noise: its size where samples were acquired, and nothing elsewhere."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.kspace_noise import KspaceNoise
from robustbench_med.streams import CaseRng

MULTIPLES = [(1.0, 1.0), (3.0, 1.0), (2.0, 0.25)]


def batch_of(noise=(0.01, 0.2), size=128, cases=2):
    mask = torch.zeros(cases, 1, size, size)
    mask[:, :, ::2] = 1
    sigma = torch.tensor(noise)
    stream = torch.Generator().manual_seed(0)
    measured = torch.randn(cases, 2, size, size, generator=stream) * sigma.view(-1, 1, 1, 1) * mask
    ids = tuple(map(str, range(cases)))
    return Batch(ids, measured, torch.zeros(cases, 2), {"mask": mask, "noise": sigma})


def shifted(batch, severity, multiples=1.0):
    ratio = [multiples * level for level in range(1, 6)]
    return KspaceNoise(ratio)(batch, severity, CaseRng(0, "n", batch.case_ids))


@pytest.mark.parametrize(("severity", "multiples"), MULTIPLES)
def test_the_noise_added_has_the_stated_size_and_is_white(severity, multiples):
    batch = batch_of()
    added = (shifted(batch, severity, multiples).image - batch.image)[:, :, ::2]
    for case, sigma in enumerate(batch.context["noise"]):
        values = added[case] / (severity * multiples * sigma)
        count = values.numel()
        assert values.mean().abs() < 5 / count**0.5
        assert abs(values.square().mean() - 1) < 5 * (2 / count) ** 0.5
        real, imaginary = values
        assert abs((real * imaginary).mean()) < 5 / real.numel() ** 0.5


@pytest.mark.parametrize(("severity", "multiples"), MULTIPLES)
def test_the_context_says_the_total_noise(severity, multiples):
    batch = batch_of()
    moved = shifted(batch, severity, multiples)
    # The signal is noise alone, so its size is the total.
    found = moved.image[:, :, ::2].square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(moved.context["noise"], found, rtol=0.03, atol=0)
    expected = batch.context["noise"] * (1 + (severity * multiples) ** 2) ** 0.5
    torch.testing.assert_close(moved.context["noise"], expected)


def test_samples_that_were_not_acquired_stay_exactly_0():
    moved = shifted(batch_of(), 5.0)
    assert (moved.image[:, :, 1::2] == 0).all()
    assert (moved.image[:, :, ::2] != 0).all()


def test_images_are_sent_to_rician():
    image = torch.rand(1, 1, 4, 4)
    with pytest.raises(CaseError, match=r"acts on k-space.*use rician for magnitude images"):
        shifted(Batch(("a",), image, image), 1.0)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (None, "one standard deviation a case, got none"),
        (torch.ones(2, 1), r"got shape \(1,\)"),
        (torch.tensor([0.1, 0.0]), "case '1' has 0"),
        (torch.tensor([float("nan"), 1.0]), "case '0' has nan"),
    ],
)
def test_a_case_without_noise_to_multiply_is_refused(noise, message):
    batch = batch_of(size=4)
    context = {"mask": batch.context["mask"]} | ({} if noise is None else {"noise": noise})
    with pytest.raises(CaseError, match=message):
        shifted(Batch(batch.case_ids, batch.image, batch.target, context), 1.0)


def test_a_ratio_that_is_no_five_levels_is_refused():
    with pytest.raises(InputError, match="ratio must be five numbers above 0"):
        KspaceNoise(-1.0)
