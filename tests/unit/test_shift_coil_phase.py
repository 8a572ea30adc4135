"""Phases of coils: each sample's magnitude, the angle, and how coils cancel."""

import math

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.coils import adjoint, sensitivities
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.shifts.coil_phase import CoilPhase
from robustbench_med.streams import CaseRng


def batch_of(cases=3, coils=4):
    mask = torch.ones(cases, 1, 8, 6)
    mask[:, :, 1::3] = 0
    kspace = torch.randn(cases, 2 * coils, 8, 6, generator=torch.manual_seed(0)) * mask
    return Batch(tuple(map(str, range(cases))), kspace, torch.zeros(cases), {"mask": mask})


def test_each_coil_is_turned_by_its_angle_and_keeps_every_magnitude():
    batch = batch_of()
    angles = torch.rand(3, 4) - 0.5
    names = [f"phase_{coil}" for coil in range(4)]
    values = dict(zip(names, angles.unbind(1), strict=True))
    found = to_complex(CoilPhase().apply(batch, values).image)
    before = to_complex(batch.image)
    expected = torch.exp(1j * angles)[..., None, None] * before
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.abs(), before.abs())
    assert (found[(batch.context["mask"] == 0).expand_as(found)] == 0).all()


def test_an_angle_that_all_share_turns_the_image_and_others_cancel_in_part():
    image = torch.rand(1, 16, 16, generator=torch.manual_seed(0)).to(torch.complex64)
    maps = sensitivities(4, (16, 16), 10.0)[None]
    mask = torch.ones(1, 1, 16, 16)
    batch = Batch(("a",), to_channels(fft2c(maps * image)), torch.zeros(1), {"mask": mask})
    for angles in ([0.4] * 4, [0.4, -0.2, 0.1, -0.3]):
        values = {f"phase_{coil}": torch.tensor([angles[coil]]) for coil in range(4)}
        found = adjoint(to_complex(CoilPhase().apply(batch, values).image), maps, mask)
        turn = torch.exp(1j * torch.tensor(angles)).view(1, 4, 1, 1)
        expected = (turn * maps.abs().square()).sum(dim=1) * image
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert (found.abs() <= image.abs() + 1e-5).all()


def test_draws_are_uniform_to_the_level_and_in_proportion_at_every_severity():
    batch = batch_of(cases=500)
    before = to_complex(batch.image)[:, :, 0, 0]
    angles = [
        (to_complex(CoilPhase()(batch, v, CaseRng(2, f"p@{v}", batch.case_ids)).image)[:, :, 0, 0]
         / before).angle()
        for v in (1, 4)
    ]  # fmt: skip
    torch.testing.assert_close(angles[1], angles[0] / 0.15, atol=1e-4, rtol=0)
    assert 0.99 < float(angles[1].abs().max()) <= 1 + 1e-5
    assert float(angles[1].std()) == pytest.approx(1 / math.sqrt(3), rel=0.04)
    assert float(torch.corrcoef(angles[1].T).fill_diagonal_(0).abs().max()) < 0.15


def test_a_slope_leads_to_every_angle():
    batch = batch_of(cases=1, coils=2)
    batch = Batch(batch.case_ids, batch.image.double(), batch.target, batch.context)
    assert torch.autograd.gradcheck(
        lambda a, b: CoilPhase().apply(batch, {"phase_0": a, "phase_1": b}).image,
        [torch.rand(1, dtype=torch.float64, requires_grad=True) for _ in range(2)],
    )


def test_what_cannot_be_is_refused():
    rng = CaseRng(0, "c", ("0", "1", "2"))
    with pytest.raises(CaseError, match="coil_phase: acts on several coils, case '0' has k-space"):
        CoilPhase()(batch_of(coils=1), 1, rng)
    with pytest.raises(CaseError, match="coil_phase: acts on k-space"):
        CoilPhase()(Batch(("0",), torch.rand(1, 1, 8, 8), torch.zeros(1)), 1, rng)
    with pytest.raises(InputError, match=r"coil_phase: radians must be at most 3\.14159, got 4"):
        CoilPhase([1, 1, 1, 1, 4])
