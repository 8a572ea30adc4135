"""Lost lines: how many, which, what the mask says, and what the image is without them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.lost_lines import LostLines
from robustbench_med.streams import CaseRng

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)


def batch_of(image, **context):
    return Batch(tuple(map(str, range(len(image)))), image, torch.zeros(len(image)), context)


def kspace_of(cases=300, rows=30, planes=()):
    """k-space of ones, of which every third line was not acquired and the middle ones were."""
    mask = torch.ones(cases, 1, *planes, rows, 4)
    mask[..., ::3, :] = 0
    mask[..., rows // 2 - 3 : rows // 2 + 3, :] = 1
    return batch_of(mask.expand(-1, 4, *[-1] * (mask.ndim - 2)).contiguous(), mask=mask)


def left(batch, severity, **settings):
    shift = LostLines(LEVELS, **settings)
    return shift(batch, severity, CaseRng(0, f"l@{severity}", batch.case_ids))


def test_the_share_that_was_asked_is_lost_and_the_mask_knows_nothing_of_it():
    batch = kspace_of()
    acquired = batch.context["mask"][:, 0, :, 0].sum(dim=1)
    for severity in (1, 2.5, 5):
        found = left(batch, severity)
        lines = (found.image != 0).any(dim=(1, 3)).sum(dim=1)
        lost = acquired - lines
        share = float(np.interp(severity, range(6), [0, *LEVELS]))
        assert lost.mean().item() == pytest.approx(share * float(acquired[0]), abs=0.1)
        assert ((lost - share * acquired).abs() < 1).all()
        assert torch.equal(found.context["mask"], batch.context["mask"])


def test_whole_lines_are_lost_in_all_coils_and_others_stay_to_the_bit():
    batch = kspace_of(cases=5)
    found = left(batch, 3).image
    gone = (found == 0).all(dim=(1, 3))
    assert torch.equal(found, batch.image.where(~gone[:, None, :, None], 0))


def test_the_centre_stays_where_it_is_to_and_any_line_is_lost_in_turn():
    batch = kspace_of()
    rate = (left(batch, 5, centre_lines=6).image[:, 0, :, 0] == 0).double().mean(dim=0)
    assert (rate[12:18] == 0).all()
    beyond = torch.tensor([row for row in range(30) if row % 3 and not 12 <= row < 18])
    # Half of 22 lines are lost among the 16 beyond the centre, each with the same chance.
    assert ((rate[beyond] - 11 / 16).abs() < 4 * (11 / 16 * 5 / 16 / 300) ** 0.5).all()
    any_line = (left(batch, 5, centre_lines=0).image[:, 0, :, 0] == 0).double().mean(dim=0)
    assert any_line[12:18].min() > 0.4


def test_lines_lost_at_a_lower_severity_are_among_those_at_a_higher_one():
    batch = kspace_of(cases=20)
    gone = [left(batch, severity).image == 0 for severity in (0.5, 1, 2, 3.3, 5)]
    assert all((less <= more).all() for less, more in pairwise(gone))


def test_slices_with_masks_of_their_own_lose_lines_of_their_own():
    found = left(kspace_of(cases=3, planes=(4,)), 4).image
    assert not torch.equal(found[:, :, 0], found[:, :, 1])
    shared = kspace_of(cases=3)
    volume = Batch(
        shared.case_ids, shared.image.unsqueeze(2).expand(-1, -1, 4, -1, -1), shared.target,
        {"mask": shared.context["mask"].unsqueeze(2)},
    )  # fmt: skip
    found = left(volume, 4).image
    assert torch.equal(found[:, :, 0], found[:, :, 3])


def test_an_image_is_what_becomes_of_its_kspace():
    image = torch.rand(3, 2, 24, 20, dtype=torch.float64)
    mask = torch.ones(3, 1, 24, 20)
    kspace = left(batch_of(to_channels(fft2c(image)), mask=mask), 4).image
    found = left(batch_of(image), 4).image
    torch.testing.assert_close(found, ifft2c(to_complex(kspace)).abs())
    assert float(found.square().sum()) == pytest.approx(float(kspace.square().sum()))
    turned = left(batch_of(image.mT), 4, lines="columns").image
    torch.testing.assert_close(turned.mT, found)


def test_a_scan_without_any_line_left_is_refused():
    mask = torch.zeros(2, 1, 8, 4)
    mask[0] = 1
    mask[1, :, 4] = 1
    batch = batch_of(torch.ones(2, 2, 8, 4) * mask, mask=mask)
    with pytest.raises(CaseError, match=r"case '1' would lose \d of 1 lines, .* must be left"):
        LostLines([1, 1, 1, 1, 1], centre_lines=0)(batch[1], 5, CaseRng(0, "l", ("1",)))
    with pytest.raises(CaseError, match="'0' would lose 8 of 8 lines, of which 4 in the centre"):
        LostLines([1, 1, 1, 1, 1])(batch[0], 5, CaseRng(0, "l", ("0",)))


def test_settings_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"share must be at most 1, got 1\.5"):
        LostLines((0.1, 0.2, 0.3, 0.4, 1.5))
    with pytest.raises(InputError, match="centre_lines must be a whole number, at least 0, got -1"):
        LostLines(centre_lines=-1)
    with pytest.raises(CaseError, match="lost_lines: needs magnitude images"):
        left(batch_of(-torch.ones(1, 1, 8, 8)), 1)
