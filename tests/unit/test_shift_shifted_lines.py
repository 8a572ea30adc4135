"""Displaced lines against whole samples moved, and the ghost half a field away."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.shifted_lines import ShiftedLines
from robustbench_med.streams import CaseRng


@pytest.fixture
def image():
    return torch.rand(3, 2, 24, 21, dtype=torch.float64, generator=torch.manual_seed(0))


def batch_of(image, **context):
    return Batch(tuple(map(str, range(len(image)))), image, torch.zeros(len(image)), context)


def moved(image, delay, shift=None, **context):
    delay = torch.full((len(image),), delay, dtype=torch.float64)
    return (shift or ShiftedLines()).apply(batch_of(image, **context), {"delay": delay}).image


@pytest.mark.parametrize("delay", [0.3, -1.0, 2.7])
def test_the_object_fades_by_the_cosine_and_its_ghost_rises_by_the_sine(image, delay):
    turn = torch.pi * delay * (torch.arange(21, dtype=torch.float64) - 10) / 21
    expected = (turn.cos() * image).hypot(turn.sin() * image.roll(12, dims=-2))
    torch.testing.assert_close(moved(image, delay), expected)


@pytest.mark.parametrize("delay", [2.0, -6.0])
def test_whole_samples_roll_even_lines_one_way_and_odd_ones_the_other(image, delay):
    kspace = to_channels(fft2c(image))
    half = int(delay) // 2
    expected = torch.empty_like(kspace)
    expected[:, :, ::2] = kspace[:, :, ::2].roll(half, dims=-1)
    expected[:, :, 1::2] = kspace[:, :, 1::2].roll(-half, dims=-1)
    found = moved(kspace, delay, mask=torch.ones(3, 1, 24, 21))
    torch.testing.assert_close(found, expected)


def test_lines_alternate_as_they_are_acquired():
    mask = torch.zeros(1, 1, 9, 6)
    rows = [0, 3, 4, 7, 8]
    mask[:, :, rows] = 1
    kspace = torch.randn(1, 2, 9, 6, generator=torch.manual_seed(1)) * mask
    found = moved(kspace, 2.0, mask=mask)
    for number, row in enumerate(rows):
        expected = kspace[:, :, row].roll(1 if number % 2 == 0 else -1, dims=-1)
        torch.testing.assert_close(found[:, :, row], expected, atol=1e-6, rtol=0)
    assert (found[(mask == 0).expand_as(found)] == 0).all()


@pytest.mark.parametrize("rows", [24, 23])
def test_an_image_is_what_becomes_of_its_kspace_and_every_line_keeps_its_energy(image, rows):
    image = image[:, :, :rows]
    kspace = to_channels(fft2c(image))
    found = moved(kspace, 0.7, mask=torch.ones(3, 1, rows, 21))
    torch.testing.assert_close(ifft2c(to_complex(found)).abs(), moved(image, 0.7))
    energy = found.square().sum(dim=(1, 3))
    torch.testing.assert_close(energy, kspace.square().sum(dim=(1, 3)))


def test_columns_are_rows_of_the_turned_image_and_volumes_are_as_their_slices(image):
    turned = moved(image.mT, 0.7, ShiftedLines(lines="columns")).mT
    torch.testing.assert_close(turned, moved(image, 0.7))
    volume = torch.stack([image, image.flip(2)], dim=2)
    torch.testing.assert_close(moved(volume, 0.7)[:, :, 1], moved(image.flip(2), 0.7))
    mask = torch.ones(3, 1, 2, 24, 21)
    mask[:, :, 1, 11] = 0
    found = moved(volume * mask, 2.0, mask=mask)
    single = moved(volume[:, :, 1] * mask[:, :, 1], 2.0, mask=mask[:, :, 1])
    torch.testing.assert_close(found[:, :, 1], single)


def test_a_slope_leads_to_the_delay(image):
    image = image[..., :6, :5]
    for context in ({}, {"mask": torch.ones(3, 1, 6, 5)}):
        assert torch.autograd.gradcheck(
            lambda delay, context=context: (
                ShiftedLines().apply(batch_of(image, **context), {"delay": delay}).image
            ),
            torch.tensor([0.3, 0.9, -0.5], dtype=torch.float64, requires_grad=True),
        )


def test_a_draw_has_the_levels_delay_either_way_alike_at_every_severity(image):
    kspace = to_channels(fft2c(image))
    batch = batch_of(kspace, mask=torch.ones(3, 1, 24, 21))
    half, full = (
        ShiftedLines([0.5, 1, 2, 3, 4])(batch, v, CaseRng(4, f"s@{v}", batch.case_ids)).image
        for v in (2, 3)
    )
    for case in range(3):
        either = [moved(kspace, side, mask=batch.context["mask"])[case] for side in (1.0, -1.0)]
        side = [i for i in range(2) if torch.allclose(half[case], either[i], atol=1e-6)]
        twice = moved(kspace, 2.0 - 4 * side[0], mask=batch.context["mask"])[case]
        torch.testing.assert_close(full[case], twice, atol=1e-6, rtol=0)


def test_what_cannot_be_is_refused(image):
    with pytest.raises(CaseError, match="shifted_lines: needs magnitude images"):
        moved(-image, 1.0)
    with pytest.raises(InputError, match="shifted_lines: delay must be five numbers"):
        ShiftedLines(1.0)
    with pytest.raises(InputError, match="shifted_lines: lines must be rows or columns"):
        ShiftedLines(lines=0)
