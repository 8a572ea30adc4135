"""Motion against rolled images, resampled ones, and an object known everywhere."""

import math

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.motion import Motion
from robustbench_med.shifts.rigid import rotate, translation
from robustbench_med.shifts.shots import places
from robustbench_med.streams import CaseRng

SPACING = torch.tensor([8.0, 2.0, 1.5])


def batch_of(image, **context):
    cases = len(image)
    ids = tuple(map(str, range(cases)))
    return Batch(ids, image, image, {"spacing": SPACING.expand(cases, 3), **context})


def shifted(batch, severity=2.0, **settings):
    return Motion(**settings)(batch, severity, CaseRng(0, "m", batch.case_ids))


def levels_of(first):
    return [first * severity for severity in range(1, 6)]


def moved_to(batch, severity=2.0, **settings):
    shift = Motion(**settings)
    rows = batch.image.shape[-2 if shift.axis == "rows" else -1]
    mask = batch.context.get("mask", torch.ones(len(batch), 1, rows, 1))
    lines = mask.reshape(len(batch), 1, rows, -1).any(dim=3)
    return places("m", batch, lines, shift._draw(severity, CaseRng(0, "m", batch.case_ids)))


def gaussian(rows, columns, centre_mm=(0.0, 0.0), turn=0.0):
    """An oblong blob on a grid of 2 by 1.5 mm, with its long axis `turn` from columns to rows."""
    y = (torch.arange(rows).double() - (rows - 1) / 2) * 2.0 - centre_mm[0]
    x = (torch.arange(columns).double() - (columns - 1) / 2) * 1.5 - centre_mm[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    along, across = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    return torch.exp(-0.5 * ((along / 9) ** 2 + (across / 5) ** 2)).view(1, 1, rows, columns)


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_a_ramp_of_whole_pixels_rolls_the_image(size):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    offset = torch.tensor([[4.0, -4.5], [-2.0, 3.0]]).unsqueeze(1).expand(-1, size[0], -1)
    ramp = translation(offset, SPACING[1:].expand(2, 2).double(), size[1])
    moved = ifft2c(fft2c(image) * ramp.unsqueeze(1))
    for case, pixels in enumerate([(2, -3), (-1, 2)]):
        torch.testing.assert_close(moved.real[case], image[case].roll(pixels, (1, 2)))
    assert moved.imag.abs().max() < 1e-12


def test_a_ramp_of_part_of_a_pixel_is_a_band_limited_image_moved():
    offset = torch.tensor([[0.7, -1.1]]).view(1, 1, 2).expand(-1, 60, -1)
    image = gaussian(60, 90)
    ramp = translation(offset, SPACING[1:].expand(1, 2).double(), 90)
    moved = ifft2c(fft2c(image) * ramp).real
    torch.testing.assert_close(moved, gaussian(60, 90, (0.7, -1.1)), atol=1e-6, rtol=0)


def test_a_rotation_is_what_the_turned_object_looks_like_on_oblong_pixels():
    for degrees in (10.0, -25.0):
        angle = torch.tensor([math.radians(degrees)], dtype=torch.float64)
        turned = rotate(gaussian(60, 90), angle, SPACING[1:].expand(1, 2).double())
        expected = gaussian(60, 90, turn=float(angle))
        torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def test_turning_there_and_back_gives_any_image_back():
    image = torch.rand(2, 2, 3, 9, 15, dtype=torch.float64)
    angle, pixel_mm = torch.tensor([0.3, -0.2]), SPACING[1:].expand(2, 2)
    turned = rotate(image, angle, pixel_mm)
    assert (turned - image).abs().max() > 0.1
    torch.testing.assert_close(rotate(turned, -angle, pixel_mm), image)


def test_lines_of_kspace_come_from_the_object_where_it_lay_in_their_shot():
    seen = torch.rand(3, 4, 16, 12, dtype=torch.float64)
    mask = torch.zeros(3, 1, 16, 12, dtype=torch.float64)
    mask[:, :, ::3] = 1
    batch = batch_of(to_channels(fft2c(torch.complex(seen[:, :2], seen[:, 2:])) * mask), mask=mask)
    found = to_complex(shifted(batch).image)
    shot, place = moved_to(batch)
    for case in range(3):
        for row in range(16):
            offset = place[case, shot[case, row], :2].expand(1, 16, 2)
            ramp = translation(offset, SPACING[1:].double().view(1, 2), 12)
            expected = to_complex(batch.image)[case] * ramp[0]
            torch.testing.assert_close(found[case, :, row], expected[:, row])
    assert (found[:, :, 1] == 0).all()


def test_planes_with_masks_of_their_own_share_the_moves_and_not_the_lines():
    stream = torch.Generator().manual_seed(1)
    mask = (
        (torch.rand(3, 1, 2, 4, 16, 1, generator=stream) < 0.4)
        .float()
        .expand(-1, -1, -1, -1, -1, 6)
    )
    mask = mask.clone().index_fill_(4, torch.tensor([7, 8]), 1.0)
    image = torch.randn(3, 4, 2, 4, 16, 6, generator=stream) * mask
    together = shifted(batch_of(image, mask=mask)).image
    for phase, z in ((0, 0), (1, 2)):
        alone = batch_of(image[:, :, phase, z], mask=mask[:, :, phase, z])
        torch.testing.assert_close(together[:, :, phase, z], shifted(alone).image)
    shared = batch_of(image, mask=mask[:, :, :1, :1])
    flat = batch_of(image[:, :, 1, 2], mask=mask[:, :, 0, 0])
    torch.testing.assert_close(shifted(shared).image[:, :, 1, 2], shifted(flat).image)


def test_a_magnitude_image_is_put_together_from_the_lines_of_its_places():
    batch = batch_of(torch.rand(2, 1, 12, 10, dtype=torch.float64) + 0.5)
    found = shifted(batch, 3.0, events=1, degrees=levels_of(5.0)).image
    shot, place = moved_to(batch, 3.0, events=1, degrees=levels_of(5.0))
    pixel = SPACING[1:].double().view(1, 2)
    for case in range(2):
        kspace = torch.zeros(12, 10, dtype=torch.complex128)
        for row in range(12):
            y, x, angle = place[case, shot[case, row]]
            turned = rotate(batch.image[case : case + 1], angle.view(1).double(), pixel)
            offset = torch.tensor([y, x]).expand(1, 12, 2)
            moved = fft2c(turned) * translation(offset, pixel, 10)
            kspace[row] = moved[0, 0, row]
        torch.testing.assert_close(found[case, 0], ifft2c(kspace).abs())


def test_lines_along_the_columns_are_put_together_likewise():
    batch = batch_of(torch.rand(2, 1, 12, 10, dtype=torch.float64) + 0.5)
    settings = {"axis": "columns", "degrees": levels_of(5.0), "times": [0.2, 0.8]}
    found = shifted(batch, 3.0, **settings).image
    shot, place = moved_to(batch, 3.0, **settings)
    assert shot[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]
    pixel = SPACING[1:].double().view(1, 2)
    for case in range(2):
        kspace = torch.zeros(12, 10, dtype=torch.complex128)
        for column in range(10):
            y, x, angle = place[case, shot[case, column]]
            turned = rotate(batch.image[case : case + 1], angle.view(1).double(), pixel)
            offset = torch.tensor([y, x]).expand(1, 12, 2)
            moved = fft2c(turned) * translation(offset, pixel, 10)
            kspace[:, column] = moved[0, 0, :, column]
        torch.testing.assert_close(found[case, 0], ifft2c(kspace).abs())


def test_the_object_moves_at_the_times_that_are_set_in_draws_and_in_a_search():
    batch = batch_of(torch.rand(3, 1, 21, 4))
    shift = Motion(events=3, times=[0.1, 0.5, 0.95])
    shot, _ = moved_to(batch, events=3, times=[0.1, 0.5, 0.95])
    # Of 20 gaps between 21 lines: after 2, 10 and 19 of them.
    assert shot.tolist() == [[0] * 3 + [1] * 8 + [2] * 9 + [3]] * 3
    ranges = shift.ranges(batch, 2.0)
    assert [ranges[f"moment_{event}"] for event in range(3)] == [
        (0.1,) * 2,
        (0.5,) * 2,
        (0.95,) * 2,
    ]
    free = Motion(events=3)
    moves = free._draw(2.0, CaseRng(0, "m", batch.case_ids))
    fixed = shift._draw(2.0, CaseRng(0, "m", batch.case_ids))
    assert torch.equal(moves[..., 1:], fixed[..., 1:])  # whither does not depend on it


@pytest.mark.parametrize("events", [1, 2, 5])
def test_the_object_moves_by_the_stated_distance_and_stays_where_the_centre_is_acquired(events):
    batch = batch_of(torch.rand(50, 1, 20, 4))
    shot, place = moved_to(batch, 3.0, mm=levels_of(0.5), degrees=levels_of(2.0), events=events)
    assert shot[:, 0].eq(0).all()
    assert shot[:, -1].eq(events).all()
    assert (shot.diff(dim=1) >= 0).all()
    distance, turn = place[..., :2].norm(dim=2), place[..., 2]
    centre = shot[:, 10]
    here = torch.arange(events + 1) == centre.unsqueeze(1)
    assert (place[here] == 0).all()
    torch.testing.assert_close(distance[~here], torch.full((50 * events,), 1.5))
    torch.testing.assert_close(turn[~here].abs(), torch.full((50 * events,), math.radians(6.0)))
    assert 0.2 < (turn[~here] > 0).float().mean() < 0.8
    # No two shots of a case share a place by construction.
    assert len({tuple(p) for p in place[0].tolist()}) == events + 1


def test_moments_are_drawn_among_the_acquired_lines():
    mask = torch.zeros(400, 1, 20, 4)
    mask[:, :, [2, 9, 11, 17]] = 1
    shot, _ = moved_to(batch_of(torch.rand(400, 2, 20, 4) * mask, mask=mask), events=1)
    first = (shot[:, [2, 9, 11, 17]] == 1).long().argmax(dim=1)
    counts = first.bincount(minlength=4)
    assert counts[0] == 0
    # Each of three is expected 133 times, with a standard deviation of 9.4.
    assert (counts[1:] - 400 / 3).abs().max() < 50


def test_only_the_size_of_a_move_depends_on_severity_and_on_the_name_of_the_probe():
    batch = batch_of(torch.rand(4, 1, 16, 4))
    shot, place = moved_to(batch, 1.0)
    moves = Motion()._draw(3.0, CaseRng(0, "motion@3", batch.case_ids))
    other = places("m", batch, torch.ones(4, 1, 16, dtype=torch.bool), moves)
    assert torch.equal(other[0], shot)
    torch.testing.assert_close(other[1], 3 * place)


def test_a_constant_image_stays_constant_and_slices_move_together():
    flat = torch.full((2, 1, 3, 16, 12), 0.4)
    torch.testing.assert_close(shifted(batch_of(flat), 5.0).image, flat)
    image = torch.rand(2, 1, 2, 3, 16, 12)
    found = shifted(batch_of(image)).image
    torch.testing.assert_close(found[:, :, 1, 2], shifted(batch_of(image[:, :, 1, 2])).image)


def test_a_small_move_changes_little():
    image = gaussian(24, 24).float()
    torch.testing.assert_close(shifted(batch_of(image), 1e-4).image, image, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({}, "needs spacing in the context, mm along z, y, x, got none"),
        ({"spacing": torch.ones(1, 2)}, r"got shape \(2,\)"),
        ({"spacing": torch.tensor([[1.0, 0.0, 1.0]])}, "spacing must be above 0 mm"),
    ],
)
def test_a_case_without_a_spacing_is_refused(context, message):
    image = torch.rand(1, 1, 4, 4)
    with pytest.raises(CaseError, match=message):
        shifted(Batch(("a",), image, image, context))


def test_what_cannot_move_is_refused():
    mask = torch.zeros(1, 1, 4, 4)
    mask[:, :, 2] = 1
    with pytest.raises(CaseError, match="case '0' has a plane with fewer than two acquired"):
        shifted(batch_of(torch.zeros(1, 2, 4, 4), mask=mask))
    mask = torch.ones(1, 1, 4, 4)
    with pytest.raises(CaseError, match="motion: case '0' is k-space, whose lines are its rows"):
        shifted(batch_of(torch.zeros(1, 2, 4, 4), mask=mask), axis="columns")
    with pytest.raises(CaseError, match="needs magnitude images"):
        shifted(batch_of(-torch.ones(1, 1, 4, 4)))
    with pytest.raises(UnsupportedError, match="two or more spatial axes"):
        shifted(batch_of(torch.rand(1, 1, 8)))
    with pytest.raises(InputError, match="at most 45 degrees, got 60 at severity 3"):
        shifted(batch_of(torch.rand(1, 1, 8, 8)), 3.0, degrees=levels_of(20.0))


@pytest.mark.parametrize(
    "settings",
    [{"mm": [0.0] * 5}, {"degrees": (-1.0, 0, 0, 0, 0)}, {"degrees": True}, {"events": 0},
     {"times": [0.5]}, {"times": [0.2, 1.0]}, {"times": [-0.1, 0.2]}, {"times": 0.5},
     {"times": [True, 0.5]}, {"axis": "column"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError, match=f"motion: {next(iter(settings))} must be") as refused:
        Motion(**settings)
    assert "\n" not in str(refused.value)
