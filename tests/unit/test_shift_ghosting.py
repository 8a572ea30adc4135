"""Ghosting against copies of the object laid over each other, and laws of k-space."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.ghosting import Ghosting
from robustbench_med.shifts.lines import order
from robustbench_med.streams import CaseRng


@pytest.fixture
def image():
    return torch.rand(3, 2, 24, 20, dtype=torch.float64, generator=torch.manual_seed(0))


def batch_of(image, **context):
    return Batch(tuple(map(str, range(len(image)))), image, torch.zeros(len(image)), context)


def ghosted(image, intensity, ghosts, start, shift=None, **context):
    names = "intensity", "ghosts", "start"
    values = (torch.full((len(image),), float(value)) for value in (intensity, ghosts, start))
    shift = shift or Ghosting()
    return shift.apply(batch_of(image, **context), dict(zip(names, values, strict=True)))


@pytest.mark.parametrize(("ghosts", "start", "first"), [(2, 0, 1), (2, 0.99, 1), (3, 0.6, 2),
                                                         (4, 0.99, 3), (8, 0.45, 4)])  # fmt: skip
def test_as_many_copies_as_asked_lie_evenly_over_each_other(image, ghosts, start, first):
    """A weight of period n is a sum of n plane waves, and each moves the object."""
    expected = image.to(torch.complex128)
    for copy in range(ghosts):
        turn = 2j * torch.pi * torch.tensor(copy * first / ghosts)
        moved = image.roll(copy * 24 // ghosts, dims=-2)
        expected = expected - 0.6 / ghosts * torch.exp(-turn) * moved
    found = ghosted(image, 0.6, ghosts, start).image
    torch.testing.assert_close(found, expected.abs(), atol=1e-7, rtol=0)


def test_columns_are_rows_of_the_turned_image(image):
    found = ghosted(image, 0.5, 5, 0.3, Ghosting(lines="columns"))
    turned = ghosted(image.mT, 0.5, 5, 0.3)
    torch.testing.assert_close(found.image, turned.image.mT)


def test_in_kspace_every_nth_acquired_line_is_weaker_and_the_centre_stays():
    mask = torch.zeros(1, 1, 12, 6)
    mask[:, :, [0, 2, 4, 5, 6, 7, 9, 11]] = 1
    kspace = torch.ones(1, 2, 12, 6) * mask
    found = ghosted(kspace, 0.25, 3, 0.0, mask=mask)
    # Counted from row 6, rows 4 and 7 stand at -2 and 1: one after a multiple of three.
    weights = torch.tensor([1, 0, 1, 0, 0.75, 1, 1, 0.75, 0, 1, 0, 1])
    assert torch.equal(found.image, weights.view(1, 1, 12, 1).expand(1, 2, 12, 6))
    assert torch.equal(found.context["mask"], mask)


def test_kspace_and_its_magnitude_image_agree(image):
    kspace = to_channels(fft2c(image))
    found = ghosted(kspace, 0.7, 5, 0.5, mask=torch.ones(3, 1, 24, 20)).image
    torch.testing.assert_close(
        ifft2c(to_complex(found)).abs(), ghosted(image, 0.7, 5, 0.5).image, atol=1e-7, rtol=0
    )


def test_energy_is_lost_by_the_weakened_lines_alone(image):
    power = fft2c(image).abs().square()
    hit = torch.zeros(24, dtype=torch.bool)
    hit[13::4] = hit[1:12:4] = True
    left = power.sum() - (1 - 0.4**2) * power[:, :, hit].sum()
    found = ghosted(image, 0.6, 4, 0.0).image.square().sum()
    assert float(found) == pytest.approx(float(left), rel=1e-6)


def test_lines_around_the_centre_are_spared(image):
    found = ghosted(image, 1.0, 2, 0.0, Ghosting(centre_lines=24)).image
    torch.testing.assert_close(found, image)
    some = ghosted(
        to_channels(fft2c(image)), 1.0, 2, 0.0, Ghosting(centre_lines=5),
        mask=torch.ones(3, 1, 24, 20),
    ).image  # fmt: skip
    assert ((some == 0).all(dim=(0, 1, 3)).nonzero().flatten() % 2 == 1).all()
    assert (some[:, :, 10:15] != 0).any(dim=-1).all()


def test_a_volume_is_as_its_slices_and_a_slope_leads_to_the_intensity():
    volume = torch.rand(1, 1, 2, 3, 12, 9)
    whole = ghosted(volume, 0.5, 3, 0.5).image
    torch.testing.assert_close(
        whole[:, :, 1, 2], ghosted(volume[:, :, 1, 2], 0.5, 3, 0.5).image, atol=1e-6, rtol=0
    )
    intensity = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    image = volume[0, :, :1, 0].double()
    rest = {"ghosts": torch.tensor([3.0]), "start": torch.tensor([0.5])}
    assert torch.autograd.gradcheck(
        lambda value: Ghosting().apply(batch_of(image), {"intensity": value, **rest}).image,
        intensity,
    )


def test_draws_lie_in_their_ranges_and_are_alike_at_every_severity(image):
    drawn = []

    class Seen(Ghosting):
        def apply(self, batch, parameters):
            drawn.append(parameters)
            return super().apply(batch, parameters)

    many = batch_of(image[:1].expand(200, -1, -1, -1))
    for severity in (1, 4):
        Seen(fewest=3, most=5)(many, severity, CaseRng(3, f"s@{severity}", many.case_ids))
    assert {*drawn[0]["ghosts"].tolist()} == {3.0, 4.0, 5.0}
    assert torch.equal(drawn[0]["ghosts"], drawn[1]["ghosts"])
    assert torch.equal(drawn[0]["start"], drawn[1]["start"])
    assert drawn[1]["intensity"].unique().tolist() == pytest.approx([0.7])
    assert Ghosting().ranges(many, 4)["intensity"] == (0.0, pytest.approx(0.7))


def test_lines_are_counted_from_the_acquired_one_next_to_the_middle():
    acquired = torch.tensor([[1, 0, 1, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1]]).bool()
    assert order(acquired)[0][acquired[0]].tolist() == [-2, -1, 0, 1]
    assert order(acquired)[1].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]


def test_what_cannot_be_is_refused(image):
    with pytest.raises(UnsupportedError, match="8 copies need as many lines, case '0' has 4"):
        ghosted(image[:, :, :4], 0.5, 3, 0)
    with pytest.raises(CaseError, match="ghosting: needs magnitude images"):
        ghosted(-image, 0.5, 3, 0)
    with pytest.raises(InputError, match="ghosting: intensity must be at most 1, got 2"):
        Ghosting([0.1, 0.2, 0.3, 0.4, 2.0])
    with pytest.raises(InputError, match="2 <= fewest <= most, got 1 and 8"):
        Ghosting(fewest=1)
    with pytest.raises(InputError, match="lines must be rows or columns, got 'y'"):
        Ghosting(lines="y")
    with pytest.raises(InputError, match="severity must be from 0 to 5"):
        Ghosting()(batch_of(image), 6, CaseRng(0, "g", ("0", "1", "2")))
