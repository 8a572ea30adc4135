"""A region holds what the attacker's projection can return, and its samples lie in it."""

import math

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.certify.region import box, region
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.threat import Ball, per_case_norm

STREAM = torch.Generator().manual_seed(0)
IMAGE = torch.rand(3, 1, 4, 4, generator=STREAM)
CONTEXT = {
    "noise": torch.tensor([0.1, 0.2, 0.3]),
    "mask": (torch.rand(3, 1, 4, 4, generator=STREAM) > 0.5).float(),
}
BATCH = Batch(("a", "b", "c"), IMAGE, torch.zeros(3, dtype=torch.long), CONTEXT)
BALLS = [
    Ball("linf", 0.1, (0.0, 1.0)),
    Ball("linf", 0.1),
    Ball("linf", 0.05, (0.0, 1.0), unit="fraction"),
    Ball("linf", 0.5, (0.0, 1.0), unit="noise"),
    Ball("linf", 0.1, (0.0, 1.0), support="mask"),
    Ball("l2", 0.3, (0.0, 1.0)),
    Ball("l2", 0.3, support="mask"),
    Ball("l2", 0.1, (0.0, 1.0), unit="fraction"),
    Ball("linf", 0.0, (0.0, 1.0)),
]


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_whatever_projection_returns_lies_in_the_region(ball):
    around = region(ball, BATCH)
    for _ in range(20):
        wild = IMAGE + 3 * torch.randn(IMAGE.shape, generator=STREAM)
        found = ball.project(wild, IMAGE, CONTEXT)
        assert (around.low <= found).all()
        assert (found <= around.high).all()
        if around.radius is not None:
            length = per_case_norm(found - around.centre, "l2").flatten()
            assert (length <= around.radius * (1 + 1e-5)).all()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_projection_leaves_the_samples_of_a_region_where_they_are(ball):
    around = region(ball, BATCH)
    for case in range(3):
        context = {name: value[case : case + 1] for name, value in CONTEXT.items()}
        noise = torch.rand(8, 1, 4, 4, generator=STREAM)
        for point in around[case].points(noise):
            back = ball.project(point[None], IMAGE[case : case + 1], context)
            assert torch.allclose(back[0], point, atol=1e-6)


def test_both_corners_of_a_box_are_among_its_samples():
    around = region(BALLS[0], BATCH)[1]
    points = around.points(torch.rand(8, 1, 4, 4, generator=STREAM))
    assert any(torch.equal(point, around.low[0]) for point in points)
    assert any(torch.equal(point, around.high[0]) for point in points)


def test_an_l1_ball_is_unsupported():
    with pytest.raises(UnsupportedError, match="linf or l2"):
        region(Ball("l1", 0.1), BATCH)


def test_an_image_that_is_not_finite_is_a_failed_case():
    broken = Batch(("a",), torch.full((1, 1, 2, 2), math.nan), torch.tensor([0]))
    with pytest.raises(CaseError, match="not finite"):
        region(BALLS[0], broken)


@pytest.mark.parametrize(
    ("low", "high", "problem"),
    [
        (torch.zeros(1, 2), torch.zeros(1, 3), "shape"),
        (torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.float64), "type"),
        (torch.zeros(1, 2), torch.full((1, 2), math.inf), "finite"),
        (torch.full((1, 2), math.nan), torch.zeros(1, 2), "finite"),
        (torch.ones(1, 2), torch.zeros(1, 2), "2 that do"),
    ],
)
def test_corners_that_make_no_box_are_refused(low, high, problem):
    with pytest.raises(InputError, match=problem):
        box(low, high)
