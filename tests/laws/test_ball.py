"""What a projection into a ball must keep, for any norm, unit, bounds and support."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.threat import Ball, per_case_norm

NORMS = st.sampled_from(["linf", "l2", "l1"])
UNITS = st.sampled_from(["intensity", "fraction", "noise"])
BOUNDS = st.sampled_from([(0.0, 1.0), (-1.0, 2.0), (-math.inf, math.inf), (0.0, math.inf)])
RADII = st.floats(0, 5, allow_subnormal=False)
SHAPES = st.sampled_from([(1, 1), (3, 1, 4), (2, 3, 3, 2), (2, 1, 2, 3, 2)])
few = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def requests(draw):
    ball = Ball(
        draw(NORMS),
        draw(RADII),
        draw(BOUNDS),
        draw(UNITS),
        draw(st.sampled_from([None, "free"])),
    )
    shape = draw(SHAPES)
    stream = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    centre = torch.rand(shape, generator=stream, dtype=torch.float64)
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
    image = centre + scale * torch.randn(shape, generator=stream, dtype=torch.float64)
    context = {
        "noise": torch.rand(shape[0], generator=stream, dtype=torch.float64),
        "free": (torch.rand(shape, generator=stream) < 0.6).double(),
    }
    return ball, image, centre, context


@few
@given(requests())
def test_the_result_lies_in_the_ball_in_the_bounds_and_off_the_frozen_voxels(request_):
    ball, image, centre, context = request_
    inside = ball.project(image, centre, context)
    radius = ball.radius(centre, context)
    assert (per_case_norm(inside - centre, ball.norm) <= radius * (1 + 1e-9) + 1e-9).all()
    assert inside.min() >= ball.bounds[0]
    assert inside.max() <= ball.bounds[1]
    if ball.support:
        frozen = context["free"] == 0
        assert torch.equal(inside[frozen], centre[frozen])


@few
@given(requests())
def test_projecting_twice_changes_nothing_more(request_):
    ball, image, centre, context = request_
    once = ball.project(image, centre, context)
    twice = ball.project(once, centre, context)
    torch.testing.assert_close(twice, once, atol=1e-9, rtol=1e-9)


@few
@given(requests())
def test_an_image_inside_is_left_alone(request_):
    ball, image, centre, context = request_
    inside = centre + 0.5 * (ball.project(image, centre, context) - centre)
    torch.testing.assert_close(
        ball.project(inside, centre, context), inside, atol=1e-12, rtol=1e-12
    )


@few
@given(requests())
def test_without_bounds_no_other_image_of_the_ball_is_nearer(request_):
    ball, image, centre, _ = request_
    free = Ball(ball.norm, ball.eps)
    nearest = free.project(image, centre)
    stream = torch.Generator().manual_seed(0)
    distance = per_case_norm(image - nearest, "l2")
    for _ in range(20):
        other = free.project(nearest + torch.randn(image.shape, generator=stream), centre)
        mixed = nearest + 0.1 * (other - nearest)
        assert (per_case_norm(image - mixed, "l2") >= distance - 1e-9).all()


@few
@given(requests())
def test_a_case_is_projected_the_same_alone(request_):
    ball, image, centre, context = request_
    together = ball.project(image, centre, context)
    for case in range(len(image)):
        own = {name: value[case : case + 1] for name, value in context.items()}
        alone = ball.project(image[case : case + 1], centre[case : case + 1], own)
        torch.testing.assert_close(alone[0], together[case], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("unit", ["intensity", "fraction", "noise"])
def test_eps_0_gives_the_centre_to_the_bit(norm, unit):
    stream = torch.Generator().manual_seed(0)
    centre = torch.rand(4, 1, 5, 5, generator=stream)
    image = centre + torch.randn(4, 1, 5, 5, generator=stream)
    ball = Ball(norm, 0.0, (0.0, 1.0), unit)
    assert torch.equal(ball.project(image, centre, {"noise": torch.ones(4)}), centre)
