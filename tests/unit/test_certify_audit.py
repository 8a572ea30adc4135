"""A certificate that a sample contradicts is void."""

import pytest
import torch

from robustbench_med.certify.audit import audit, sampled
from robustbench_med.certify.margin import identity_rows
from robustbench_med.errors import IntegrityError

OUTPUTS = torch.tensor([[1.0, 5.0], [2.0, 3.0]])
ROWS = identity_rows(2, OUTPUTS)


def test_limits_below_every_sample_pass():
    assert audit(OUTPUTS, ROWS, torch.tensor([1.0, -torch.inf]), 1e-5) is None


def test_rounding_within_the_slack_passes():
    within, beyond = torch.tensor([1.0 + 5e-5, 3.0]), torch.tensor([1.0 + 5e-4, 3.0])
    assert audit(OUTPUTS, ROWS, within, 1e-5) is None
    with pytest.raises(IntegrityError, match="row 0"):
        audit(OUTPUTS, ROWS, beyond, 1e-5)


def test_a_limit_above_a_sample_voids_the_certificate_and_prints_both_numbers():
    with pytest.raises(IntegrityError, match=r"row 1 .* 3.00099.* reaches 3;"):
        audit(OUTPUTS, ROWS, torch.tensor([0.0, 3.001]), 1e-5)


def test_a_limit_that_is_no_number_voids_the_certificate():
    with pytest.raises(IntegrityError):
        audit(OUTPUTS, ROWS, torch.tensor([0.0, torch.nan]), 1e-5)


def test_samples_are_run_one_by_one():
    seen = []

    def network(image):
        seen.append(len(image))
        return image * 2

    points = torch.rand(3, 1, 2, 2)
    assert torch.equal(sampled(network, points), 2 * points.flatten(start_dim=1))
    assert seen == [1, 1, 1]
