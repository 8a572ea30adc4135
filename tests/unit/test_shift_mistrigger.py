"""Lines of another phase: which, how many, from where, and by Parseval how much."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.shifts.mistrigger import Mistrigger
from robustbench_med.streams import CaseRng


def batch_of(image, **context):
    ids = tuple(f"c{i}" for i in range(len(image)))
    return Batch(ids, image, torch.zeros(len(image)), context)


def shift(trigger, batch, severity=3.0):
    return trigger(batch, severity, CaseRng(0, "m", batch.case_ids)).image


def kspace(cases=2, phases=5, slices=3, rows=20):
    """Every sample tells its phase: 1 + phase."""
    lines = torch.arange(1.0, phases + 1).view(1, 1, phases, 1, 1, 1)
    lines = lines.expand(cases, 2, phases, slices, rows, 8) * (1 + 1j)
    mask = torch.ones(cases, 1, phases, slices, rows, 8)
    return batch_of(to_channels(lines.to(torch.complex64)), mask=mask)


@pytest.mark.parametrize("away", [1, 2])
def test_lines_come_whole_from_phases_so_far_away_round_the_cycle(away):
    found = to_complex(shift(Mistrigger(phases=away), kspace()))[:, 0].real - 1
    assert (found == found[..., :1]).all()  # whole lines
    off = (found[..., 0] - torch.arange(5.0).view(1, 5, 1, 1)) % 5
    assert {*off.unique().tolist()} == {0.0, float(away), float(5 - away)}
    assert (off == off[:, :1]).all()  # in all phases alike


def test_the_share_of_the_lines_is_that_of_the_level_and_lower_ones_are_among_higher_ones():
    batch = kspace(rows=20)
    before = to_complex(batch.image)
    moved = [
        (to_complex(shift(Mistrigger(), batch, v)) != before)[:, 0, 0, :, :, 0]
        for v in (2.0, 3.0, 5.0)
    ]
    assert [each.sum(dim=-1).unique().tolist() for each in moved] == [[2], [4], [8]]
    assert (moved[0] <= moved[1]).all()
    assert (moved[1] <= moved[2]).all()
    assert not torch.equal(moved[2][:, 0], moved[2][:, 1])  # slices differ


def test_a_part_of_a_line_is_a_line_on_average():
    batch = kspace(cases=60, phases=2, slices=5, rows=10)
    found = to_complex(shift(Mistrigger(), batch, 1.0)) != to_complex(batch.image)
    assert found[:, 0, 0, :, :, 0].float().mean().item() == pytest.approx(0.05, abs=0.01)


def test_only_lines_that_both_phases_acquired_are_taken_and_no_sample_is_added():
    batch = kspace(phases=2)
    mask = batch.context["mask"].clone()
    mask[:, :, 0, :, ::2] = 0  # the first phase has the odd lines
    mask[:, :, 1, :, 15:] = 0  # the second all but the last five
    batch = batch_of(batch.image * mask, mask=mask)
    moved = Mistrigger()(batch, 5.0, CaseRng(0, "m", batch.case_ids))
    changed = (moved.image != batch.image).any(dim=1)[..., 0]
    assert changed.any(dim=(1, 2, 3)).all()
    assert not changed[..., ::2].any()
    assert not changed[..., 15:].any()
    assert (moved.image[(mask == 0).expand_as(moved.image)] == 0).all()
    assert torch.equal(moved.context["mask"], mask)


def test_phases_without_a_line_in_common_are_refused():
    batch = kspace(phases=2, rows=8)
    mask = batch.context["mask"].clone()
    mask[:, :, 0, :, ::2], mask[:, :, 1, :, 1::2] = 0, 0
    with pytest.raises(CaseError, match="mistrigger: case 'c0' has a slice without a line"):
        shift(Mistrigger(), batch_of(batch.image * mask, mask=mask))


def test_a_still_object_is_not_disturbed():
    still = torch.rand(1, 1, 1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    image = still.expand(-1, -1, 4, -1, -1, -1)
    torch.testing.assert_close(shift(Mistrigger(), batch_of(image), 5.0), image)


def test_on_images_the_error_is_by_parseval_at_most_that_of_the_lines():
    image = torch.rand(2, 1, 4, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    lines = to_channels(fft2c(image))
    whole = batch_of(lines, mask=torch.ones(2, 1, 4, 2, 16, 16))
    error = (shift(Mistrigger(), whole) - lines).square().sum()
    found = (shift(Mistrigger(), batch_of(image)) - image).square().sum()
    # The magnitude of what comes back is no further from a magnitude than itself.
    assert 0.3 * error < found <= error * (1 + 1e-5)


def test_one_slice_over_time_is_a_patient_of_one_slice():
    image = torch.rand(2, 1, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    flat = shift(Mistrigger(layout="slice"), batch_of(image[:, :, :, 0]))
    assert torch.equal(flat, shift(Mistrigger(), batch_of(image))[:, :, :, 0])


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 4, 16, 16), (1, 1, 3, 16, 16)])
def test_a_single_phase_is_refused_in_one_line(shape):
    with pytest.raises(UnsupportedError, match="mistrigger: case 'c0': needs a cine") as refused:
        shift(Mistrigger(), batch_of(torch.rand(1, *shape)))
    assert "\n" not in str(refused.value)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UnsupportedError, match="of more than 2 phases"):
        shift(Mistrigger(phases=2), kspace(phases=2))
    with pytest.raises(InputError, match="share must be at most 1"):
        Mistrigger(share=(0.5, 1, 1.5, 2, 3))
    with pytest.raises(InputError, match="mistrigger: phases must be a whole number"):
        Mistrigger(phases=0)
    with pytest.raises(InputError, match="layout must be one of patient, slice"):
        Mistrigger(layout="time")
