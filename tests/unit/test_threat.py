"""Balls: what they refuse, their radii, and projections against independent answers."""

import math

import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.threat import Ball, per_case_norm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l7", "eps": 1.0}, "norm must be one of linf, l2, l1, got 'l7'"),
        ({"norm": "l2", "eps": 1.0, "unit": "mm"}, "unit must be one of"),
        ({"norm": "l2", "eps": -0.1}, "finite and at least 0, got -0.1"),
        ({"norm": "l2", "eps": math.nan}, "finite and at least 0"),
        ({"norm": "l2", "eps": math.inf}, "finite and at least 0"),
        ({"norm": "l2", "eps": True}, "eps must be a number, got True"),
        ({"norm": "l2", "eps": "0.1"}, "eps must be a number, got '0.1'"),
        ({"norm": "l2", "eps": 1.0, "bounds": (1.0, 1.0)}, "low < high"),
        ({"norm": "l2", "eps": 1.0, "bounds": (0.0, math.nan)}, "low < high"),
        ({"norm": "l2", "eps": 1.0, "levels": 255}, "levels = 255 needs finite bounds, got"),
        ({"norm": "l2", "eps": 1.0, "bounds": (0, 1), "levels": 0}, "from 1 to 65535, got 0"),
        ({"norm": "l2", "eps": 1.0, "bounds": (0, 1), "levels": 255.0}, "whole number from 1"),
        ({"norm": "l2", "eps": 1.0, "bounds": (0, 1), "levels": True}, "got True"),
    ],
)
def test_a_ball_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Ball(**settings)


def test_a_ball_reads_as_its_claim():
    assert str(Ball("linf", 0.004)) == "linf<=0.004"
    assert str(Ball("l2", 0.05, unit="fraction", support="mask")) == "l2<=0.05 of norm on mask"
    assert str(Ball("l1", 3, unit="noise")) == "l1<=3 sigma"
    assert str(Ball("linf", 0.1, (0, 1), levels=255)) == "linf<=0.1 at 255 levels"


def test_images_too_coarse_for_the_levels_are_refused():
    ball = Ball("linf", 0.1, (0.0, 1.0), levels=255)
    image = torch.full((1, 1, 2), 0.5, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="bfloat16 do not tell its levels apart"):
        ball.stored(image + 0.05, image)


def test_the_radius_is_per_case_and_in_intensity_units():
    centre = torch.tensor([[[3.0, 4.0]], [[0.0, -2.0]]])
    noise = {"noise": torch.tensor([0.5, 2.0])}
    assert Ball("l2", 0.1).radius(centre).flatten().tolist() == pytest.approx([0.1, 0.1])
    assert Ball("l2", 0.1, unit="fraction").radius(centre).flatten().tolist() == pytest.approx(
        [0.5, 0.2]
    )
    assert Ball("l1", 0.1, unit="fraction").radius(centre).flatten().tolist() == pytest.approx(
        [0.7, 0.2]
    )
    assert Ball("linf", 3, unit="noise").radius(centre, noise).flatten().tolist() == [1.5, 6.0]


@pytest.mark.parametrize("ball", [Ball("l2", 1, unit="noise"), Ball("l2", 1, support="mask")])
def test_a_missing_context_entry_is_named_with_what_there_is(ball):
    centre = torch.zeros(1, 1, 2)
    with pytest.raises(InputError, match="in the case's context, which has spacing"):
        ball.project(centre, centre, {"spacing": torch.ones(1, 3)})
    with pytest.raises(InputError, match="which has nothing"):
        ball.project(centre, centre)


def test_linf_projection_is_the_nearest_point_of_a_box():
    stream = torch.Generator().manual_seed(0)
    centre = torch.rand(4, 1, 6, 6, generator=stream)
    image = centre + torch.randn(4, 1, 6, 6, generator=stream)
    low, high = (centre - 0.2).clamp(min=0), (centre + 0.2).clamp(max=1)
    expected = image.maximum(low).minimum(high)
    torch.testing.assert_close(Ball("linf", 0.2, (0, 1)).project(image, centre), expected)


def test_l2_projection_shortens_the_offset_to_the_radius():
    centre = torch.zeros(2, 1, 2)
    image = torch.tensor([[[3.0, 4.0]], [[0.3, 0.4]]])
    projected = Ball("l2", 1.0).project(image, centre)
    torch.testing.assert_close(projected, torch.tensor([[[0.6, 0.8]], [[0.3, 0.4]]]))


def test_l1_projection_agrees_with_a_threshold_found_by_bisection():
    stream = torch.Generator().manual_seed(1)
    offset = torch.randn(6, 40, generator=stream, dtype=torch.float64)
    for case in offset:
        low, high = 0.0, float(case.abs().max())
        for _ in range(200):
            middle = (low + high) / 2
            length = (case.abs() - middle).clamp(min=0).sum()
            low, high = (middle, high) if length > 3.0 else (low, middle)
        expected = case.sign() * (case.abs() - high).clamp(min=0)
        found = Ball("l1", 3.0).project(case.view(1, 1, -1), torch.zeros(1, 1, 40).double())
        torch.testing.assert_close(found.view(-1), expected, atol=1e-9, rtol=0)


def test_voxels_that_are_no_number_fall_back_to_the_clean_value():
    centre = torch.full((1, 1, 3), 0.5)
    image = torch.tensor([[[math.nan, 0.6, 9.0]]])
    projected = Ball("linf", 0.2, (0, 1)).project(image, centre)
    torch.testing.assert_close(projected, torch.tensor([[[0.5, 0.6, 0.7]]]))


def test_lengths_are_taken_over_all_channels_and_voxels_of_a_case():
    offset = torch.zeros(2, 2, 2, 2)
    offset[0, 0, 0, 0], offset[0, 1, 1, 1], offset[1] = 3.0, -4.0, 1.0
    expected = {"linf": [4.0, 1.0], "l2": [5.0, math.sqrt(8)], "l1": [7.0, 8.0]}
    for norm, lengths in expected.items():
        length = per_case_norm(offset, norm)
        assert length.shape == (2, 1, 1, 1)
        assert length.flatten().tolist() == pytest.approx(lengths)
