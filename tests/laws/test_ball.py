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


@st.composite
def storable(draw):
    """As `requests`, with finite bounds and levels; the clean image is stored in most cases."""
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 2.0), (-1024.0, 3071.0)]))
    levels = draw(st.sampled_from([1, 3, 255, 4095]))
    support = draw(st.sampled_from([None, "free"]))
    radius = draw(RADII) * (high - low) * draw(st.sampled_from([1.0, 0.01]))
    ball = Ball(draw(NORMS), radius, (low, high), support=support, levels=levels)
    shape = draw(SHAPES)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    stream = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    share = torch.rand(shape, generator=stream, dtype=torch.float64)
    if draw(st.integers(0, 3)):
        share = (share * levels).round() / levels
    centre = (low + (high - low) * share).to(dtype)
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0])) * (high - low)
    image = centre + scale * torch.randn(shape, generator=stream, dtype=dtype)
    if draw(st.booleans()):  # whole steps away, as a search that stands at the ball's edge
        image = (centre + draw(st.sampled_from([-8, -1, 1, 8])) * (high - low) / levels).to(dtype)
    free = {"free": (torch.rand(shape, generator=stream) < 0.6).to(dtype)}
    return ball, image, centre, free


@few
@given(storable())
def test_what_is_stored_lies_between_the_clean_and_the_projected_image(request_):
    ball, image, centre, context = request_
    inside = ball.project(image, centre, context)
    stored = ball.stored(image, centre, context)
    assert stored.dtype == centre.dtype
    assert ((stored - centre) * (inside - stored) >= 0).all()
    for norm in ("linf", "l2", "l1"):  # so it leaves no ball that held the projected one
        longer = per_case_norm(stored - centre, norm)
        assert (longer <= per_case_norm(inside - centre, norm) * (1 + 1e-6)).all()
    again = ball.stored(stored, centre, context)  # the same levels: the projection rounds
    off = 8 * torch.finfo(centre.dtype).eps * max(map(abs, ball.bounds))
    torch.testing.assert_close(again, stored, rtol=0, atol=off)


@few
@given(storable())
def test_what_is_stored_is_a_level_or_clean_and_no_level_lies_nearer(request_):
    ball, image, centre, context = request_
    low, high = ball.bounds
    stored = ball.stored(image, centre, context)
    inside = ball.project(image, centre, context).double()
    place = (stored.double() - low) / (high - low) * ball.levels
    off = 1e-2 if centre.dtype == torch.float32 else 1e-6  # of a level: what rounding may cost
    moved = stored != centre
    assert ((place - place.round()).abs()[moved] < off).all()
    left = (inside - stored.double()).abs() / (high - low) * ball.levels
    assert (left[moved] < 1 + off).all()
    # A voxel that stayed had no level to go to: none lies beyond the clean value.
    clean, there = ((v.double() - low) / (high - low) * ball.levels for v in (centre, inside))
    passed = torch.where(there > clean, (there - off).floor() - clean, clean - (there + off).ceil())
    assert (passed[~moved] <= off).all()


def test_without_levels_what_is_stored_is_the_projection_to_the_bit():
    stream = torch.Generator().manual_seed(0)
    centre, image = torch.rand(2, 3, 1, 5, 5, generator=stream)
    for norm in ("linf", "l2", "l1"):
        ball = Ball(norm, 0.3, (0.0, 1.0))
        assert torch.equal(ball.stored(image, centre), ball.project(image, centre))


def test_plain_rounding_would_leave_the_ball_and_this_does_not():
    centre = torch.full((1, 1, 1, 4), 100 / 255)
    ball = Ball("linf", 0.7 / 255, (0.0, 1.0), levels=255)
    image = ball.project(centre + torch.tensor([1.0, -1.0, 0.0, 0.002]), centre)
    plain = (image * 255).round() / 255
    assert (plain - centre).abs().max() > 1.3 * ball.eps
    assert torch.equal(ball.stored(image, centre), centre)
    wider = Ball("linf", 2.7 / 255, (0.0, 1.0), levels=255)
    found = wider.stored(centre + torch.tensor([1.0, -1.0, 0.0, 0.006]), centre)
    assert (found * 255).flatten().tolist() == pytest.approx([102, 98, 100, 101], abs=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("unit", ["intensity", "fraction", "noise"])
def test_eps_0_gives_the_centre_to_the_bit(norm, unit):
    stream = torch.Generator().manual_seed(0)
    centre = torch.rand(4, 1, 5, 5, generator=stream)
    image = centre + torch.randn(4, 1, 5, 5, generator=stream)
    ball = Ball(norm, 0.0, (0.0, 1.0), unit)
    assert torch.equal(ball.project(image, centre, {"noise": torch.ones(4)}), centre)
