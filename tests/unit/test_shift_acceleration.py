"""Acceleration: how many lines are left, which, and what is refused."""

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.sampling import cartesian_mask
from robustbench_med.shifts.acceleration import Acceleration, centre_block, equispaced
from robustbench_med.streams import CaseRng


def batch_of(rows=96, columns=5, cases=6, acceleration=4.0, centre=8):
    stream = torch.Generator().manual_seed(0)
    masks = [cartesian_mask(rows, acceleration, centre, stream) for _ in range(cases)]
    mask = torch.stack(masks).float().view(cases, 1, rows, 1).expand(-1, -1, -1, columns)
    kspace = torch.randn(cases, 4, rows, columns, generator=stream) * mask
    ids = tuple(map(str, range(cases)))
    return Batch(ids, kspace, torch.zeros(cases, 2, rows, columns), {"mask": mask})


def lines(batch):
    return batch.context["mask"][:, 0, :, 0] != 0


def levels_of(first):
    return [first * severity for severity in range(1, 6)]


def shifted(batch, severity, name="a", **settings):
    return Acceleration(**settings)(batch, severity, CaseRng(3, name, batch.case_ids))


@pytest.mark.parametrize("severity", [0.3, 1.0, 2.0, 5.0])
def test_the_number_of_lines_falls_by_the_factor(severity):
    batch = batch_of()
    left = lines(shifted(batch, severity)).sum(dim=1)
    assert left.tolist() == [round(24 / (1 + 0.25 * severity))] * len(batch)
    left = lines(shifted(batch, severity, added_factor=levels_of(0.1))).sum(dim=1)
    assert left.tolist() == [round(24 / (1 + 0.1 * severity))] * len(batch)


def test_lines_left_at_a_higher_severity_are_among_those_of_a_lower_one():
    batch = batch_of()
    before = lines(batch)
    for severity in (0.5, 1, 2, 3, 4, 5):
        # As in a run: the name of a probe's stream holds the severity.
        left = lines(shifted(batch, severity, name=f"acceleration@{severity}"))
        assert (left <= before).all()
        before = left


def test_the_centre_lines_stay_and_the_lines_left_are_measured_as_before():
    batch = batch_of()
    moved = shifted(batch, 5.0)
    assert lines(moved)[:, 44:52].all()
    kept = lines(moved).view(6, 1, 96, 1).expand_as(batch.image)
    assert torch.equal(moved.image[kept], batch.image[kept])
    assert (moved.image[~kept] == 0).all()


def test_a_fully_sampled_case_loses_lines_too_and_seeds_draw_different_ones():
    batch = batch_of(acceleration=1.0)
    assert lines(shifted(batch, 4.0)).sum(dim=1).tolist() == [48] * 6
    other = Acceleration()(batch, 4.0, CaseRng(4, "a", batch.case_ids))
    assert not torch.equal(lines(other), lines(shifted(batch, 4.0)))
    assert len({tuple(row) for row in lines(shifted(batch, 4.0)).tolist()}) == 6


def test_outside_the_centre_every_line_is_as_likely_to_go():
    batch = batch_of(rows=24, cases=2000, acceleration=1.0)
    share = lines(shifted(batch, 4.0)).float().mean(dim=0)
    outside = torch.cat([share[:8], share[16:]])
    # 4 of 16 stay: six standard errors of a share of 1/4 in 2000 draws.
    assert (outside - 0.25).abs().max() < 6 * (0.25 * 0.75 / 2000) ** 0.5


def test_equispaced_lines_are_as_many_and_in_even_steps_beside_the_centre():
    batch = batch_of(acceleration=1.0)
    before = lines(batch)
    for severity in (1.0, 2.5, 5.0):
        left = lines(shifted(batch, severity, keep="equispaced"))
        assert left.sum(dim=1).tolist() == [round(96 / (1 + 0.25 * severity))] * 6
        assert (left <= before).all()
        assert left[:, 44:52].all()
        others = torch.cat([left[:, :44], left[:, 52:]], dim=1)
        for row in others:
            steps = row.nonzero().flatten().diff()
            assert steps.max() - steps.min() <= 1
        assert len({tuple(row) for row in left.tolist()}) > 1
        again = lines(shifted(batch, severity, name="other", keep="equispaced"))
        assert torch.equal(again, left)


@pytest.mark.parametrize(("count", "most"), [(1, 0), (5, 5), (7, 3), (56, 24), (9, 1)])
def test_over_all_starts_each_equispaced_line_stays_equally_often(count, most):
    rows = torch.zeros(count, 2 * count, dtype=torch.bool)
    rows[:, 1::2] = True
    start = (torch.arange(count) + 0.5) / count
    chosen = equispaced(rows, torch.full((count,), float(most)), start)
    assert chosen.sum(dim=1).tolist() == [most] * count
    assert chosen.sum(dim=0)[1::2].tolist() == [most] * count
    assert not chosen[:, ::2].any()


@pytest.mark.parametrize(
    ("acquired", "most", "block"),
    [
        ("0111101", 8, "0111100"),
        ("0111101", 2, "0011000"),
        ("1111111", 3, "0011100"),
        ("1110111", 8, "0000000"),
        ("11111111", 4, "00111100"),
        ("1", 8, "1"),
    ],
)
def test_the_centre_is_the_block_without_a_gap_around_the_middle_row(acquired, most, block):
    row = torch.tensor([[digit == "1" for digit in acquired]])
    assert "".join(str(int(v)) for v in centre_block(row, most)[0]) == block


def test_a_volume_loses_the_same_lines_in_all_slices():
    flat = batch_of()
    image = torch.stack([flat.image, 2 * flat.image], dim=2)
    volume = Batch(flat.case_ids, image, image, {"mask": flat.context["mask"].unsqueeze(2)})
    moved = shifted(volume, 2.0)
    assert torch.equal(moved.image[:, :, 1], 2 * shifted(flat, 2.0).image)


def test_planes_with_masks_of_their_own_lose_lines_of_their_own():
    flat = batch_of(cases=12)
    mask = flat.context["mask"].view(2, 1, 2, 3, 96, 5)
    image = flat.image.view(2, 2, 3, 4, 96, 5).movedim(3, 1)
    moved = shifted(Batch(("a", "b"), image, image, {"mask": mask}), 4.0)
    left = moved.context["mask"][..., 0]
    assert left.sum(dim=-1).unique().tolist() == [12]
    assert (moved.context["mask"] <= mask).all()
    assert len({tuple(row) for row in left.reshape(12, 96).tolist()}) == 12
    assert torch.equal(moved.image, image * moved.context["mask"])
    strong = Batch(("a", "b"), image, image, {"mask": mask})
    with pytest.raises(CaseError, match="case 'a' would keep 4 lines"):
        shifted(strong, 1.0, added_factor=levels_of(5.0))


def test_an_acceleration_that_leaves_too_few_lines_is_refused_by_case():
    with pytest.raises(CaseError, match="case '0' would keep 4 lines, fewer than 8: those of"):
        shifted(batch_of(), 1.0, added_factor=levels_of(5.0))
    mask = torch.zeros(1, 1, 96, 5)
    mask[:, :, [3, 50, 90]] = 1  # no centre: then one line at least
    batch = Batch(("0",), torch.zeros(1, 2, 96, 5), torch.zeros(1), {"mask": mask})
    for keep in ("random", "equispaced"):
        with pytest.raises(CaseError, match=r"would keep 0 lines, fewer than 1: .*lower the sever"):
            shifted(batch, 1.0, added_factor=levels_of(250.0), keep=keep)


def test_a_mask_that_does_not_fit_is_refused():
    batch = batch_of()
    for context, message in (
        ({}, "which has a mask in its context"),
        ({"mask": batch.context["mask"][..., :-1]}, r"mask \(1, 96, 4\)"),
        ({"mask": batch.context["mask"] * 0}, "case '0' has no acquired sample"),
    ):
        wrong = Batch(batch.case_ids, batch.image, batch.target, context)
        with pytest.raises(CaseError, match=message):
            shifted(wrong, 1.0)


@pytest.mark.parametrize(
    "settings",
    [{"added_factor": [0.0] * 5}, {"added_factor": 0.25}, {"centre_lines": 0},
     {"centre_lines": 2.5}, {"keep": "all"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError, match=f"acceleration: {next(iter(settings))} must be"):
        Acceleration(**settings)
