"""Coils that fail: whose samples are weaker, by how much, and what is refused."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.coils import adjoint, sensitivities
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.shifts.coil_loss import CoilLoss
from robustbench_med.streams import CaseRng


def batch_of(cases=3, coils=4):
    mask = torch.ones(cases, 1, 8, 6)
    mask[:, :, 1::3] = 0
    kspace = torch.randn(cases, 2 * coils, 8, 6, generator=torch.manual_seed(0)) * mask
    ids = tuple(map(str, range(cases)))
    return Batch(ids, kspace, torch.zeros(cases), {"mask": mask, "noise": torch.ones(cases)})


@pytest.mark.parametrize(
    ("coil", "coils", "fail"),
    [(0.0, 1, [0]), (0.99, 1, [3]), (0.3, 2, [1, 2]), (0.8, 3, [3, 0, 1])],
)
def test_coils_that_follow_one_another_lose_the_share_and_others_none(coil, coils, fail):
    batch = batch_of()
    values = {"loss": torch.full((3,), 0.6), "coil": torch.full((3,), coil)}
    found = to_complex(CoilLoss(coils=coils).apply(batch, values).image)
    gain = torch.ones(4)
    gain[fail] = 0.4
    expected = gain.view(4, 1, 1) * to_complex(batch.image)
    torch.testing.assert_close(found, expected)


def test_the_image_loses_what_the_coil_saw_of_it():
    """With maps whose squares sum to 1, a silent coil takes the square of its own map."""
    image = torch.rand(1, 16, 16, generator=torch.manual_seed(0)).to(torch.complex64)
    maps = sensitivities(4, (16, 16), 10.0)[None]
    mask = torch.ones(1, 1, 16, 16)
    batch = Batch(("a",), to_channels(fft2c(maps * image)), torch.zeros(1), {"mask": mask})
    values = {"loss": torch.ones(1), "coil": torch.tensor([0.6])}
    found = adjoint(to_complex(CoilLoss().apply(batch, values).image), maps, mask)
    expected = (1 - maps[:, 2].abs().square()) * image
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_every_coil_fails_in_its_turn_and_the_same_at_every_severity():
    batch = batch_of(cases=400)
    lost = []
    for severity in (1, 5):
        found = CoilLoss()(batch, severity, CaseRng(0, f"c@{severity}", batch.case_ids))
        power = found.image.square().sum(dim=(2, 3)) / batch.image.square().sum(dim=(2, 3))
        lost.append(power[:, ::2] < 0.99)
        level = (1 - {1: 0.3, 5: 1.0}[severity]) ** 2
        torch.testing.assert_close(
            power[:, ::2][lost[-1]], torch.full((400,), level), atol=1e-5, rtol=0
        )
        assert torch.equal(found.context["mask"], batch.context["mask"])
    assert torch.equal(*lost)
    assert ((lost[0].sum(dim=0) - 100).abs() < 40).all()


def test_a_slope_leads_to_the_loss():
    batch = batch_of()
    batch = Batch(batch.case_ids, batch.image.double(), batch.target, batch.context)
    loss = torch.rand(3, dtype=torch.float64, requires_grad=True)
    coil = torch.rand(3)
    assert torch.autograd.gradcheck(
        lambda loss: CoilLoss().apply(batch, {"loss": loss, "coil": coil}).image, loss
    )


def test_what_cannot_fail_is_refused():
    rng = CaseRng(0, "c", ("0", "1", "2"))
    with pytest.raises(CaseError, match="coil_loss: acts on several coils, case '0' has k-space"):
        CoilLoss()(batch_of(coils=1), 1, rng)
    with pytest.raises(CaseError, match="case '0' has 4 coils, 4 are to fail; leave at least one"):
        CoilLoss(coils=4)(batch_of(), 1, rng)
    with pytest.raises(CaseError, match="coil_loss: acts on k-space"):
        CoilLoss()(Batch(("0",), torch.rand(1, 1, 8, 8), torch.zeros(1)), 1, rng)
    with pytest.raises(InputError, match="coil_loss: loss must be at most 1"):
        CoilLoss([1, 1, 1, 1, 2])
    with pytest.raises(InputError, match="coil_loss: coils must be a whole number"):
        CoilLoss(coils=0)
