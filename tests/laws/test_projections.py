"""Nearest points of ball and box: a numerical solver, conditions of optimality, and laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from robustbench_med.projections import corner_l1, onto_l1, onto_l2
from robustbench_med.threat import Ball

ONTO = {"l1": onto_l1, "l2": onto_l2}
ORDER = {"l1": 1, "l2": 2}
few = settings(max_examples=100, deadline=None, derandomize=True)
norms = pytest.mark.parametrize("norm", ["l1", "l2"])


@st.composite
def problems(draw, most=400):
    cases, voxels = draw(st.integers(1, 3)), draw(st.integers(1, most))
    stream = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = (cases, voxels)
    scale = draw(st.sampled_from([0.01, 1.0, 1e4]))
    offset = scale * torch.randn(size, generator=stream, dtype=torch.float64)
    if draw(st.booleans()):
        offset = offset.round(decimals=1)  # equal sizes, and zeros
    low = -torch.rand(size, generator=stream, dtype=torch.float64)
    high = torch.rand(size, generator=stream, dtype=torch.float64)
    edge = torch.rand(size, generator=stream)  # a box may end where the centre is, or nowhere
    low, high = low.where(edge > 0.1, 0), high.where(edge < 0.9, 0)
    low, high = low.where(edge > 0.2, -math.inf), high.where(edge < 0.8, math.inf)
    reach = draw(st.sampled_from([0.0, 1e-3, 0.3, 3.0, 100.0]))
    radius = reach * torch.rand((cases, 1), generator=stream, dtype=torch.float64)
    return offset, radius, low, high


@norms
@few
@given(problem=problems())
def test_the_point_meets_the_conditions_of_optimality(norm, problem):
    offset, radius, low, high = problem
    point = ONTO[norm](*problem)
    length = torch.linalg.vector_norm(point, ORDER[norm], dim=1, keepdim=True)
    assert ((point >= low) & (point <= high)).all()
    assert (length <= radius * (1 + 1e-12)).all()
    clamped = offset.clamp(low, high)
    for case in range(len(offset)):
        if torch.equal(point[case], clamped[case]):
            continue  # the nearest point of the box alone
        scale = float(offset[case].abs().max())
        assert length[case] >= radius[case] * (1 - 1e-9) - 1e-14 * scale
        if radius[case] > 0:
            _require_one_multiplier(norm, *(t[case] for t in (offset, point, low, high)))


def _require_one_multiplier(norm, x, p, a, b):
    """The free voxels agree in the multiplier, and it explains those that are not free."""
    scale = float(x.abs().max())
    at_high = (p >= b * (1 - 1e-9)) & (b > 0)
    at_low = (p <= a * (1 - 1e-9)) & (a < 0)
    free = ~at_high & ~at_low & (p != 0)
    if not free.any():
        return
    slope = p.sign() if norm == "l1" else p
    pull = (x - p)[free] / slope[free]
    multiplier = pull.mean()
    assert multiplier >= -1e-9 * scale
    torch.testing.assert_close(pull, multiplier.expand_as(pull), atol=1e-8 * scale, rtol=1e-7)
    beyond = x - p - multiplier * slope
    assert (beyond[at_high] >= -1e-7 * scale).all()
    assert (beyond[at_low] <= 1e-7 * scale).all()
    if norm == "l1":  # what became 0 was not longer than the threshold, or had no room
        gone = (p == 0) & (a < 0) & (b > 0)
        assert (x[gone].abs() <= multiplier + 1e-7 * scale).all()


@norms
@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems(most=6))
def test_a_numerical_solver_finds_no_nearer_point(norm, problem):
    problem = problem[0].clamp(-3, 3), *problem[1:]
    point = ONTO[norm](*problem)
    for case in range(len(point)):
        x, radius, low, high = (t[case].numpy() for t in problem)
        solved = _solve(norm, x, float(radius[0]), low, high)
        ours = float(((point[case].numpy() - x) ** 2).sum())
        assert ours <= float(((solved - x) ** 2).sum()) + 1e-6


def _solve(norm, x, radius, low, high):
    """Under l1 in halves, a rise and a fall of each voxel, so that everything is smooth."""
    if norm == "l2":
        limit = {"type": "ineq", "fun": lambda d: radius**2 - d @ d, "jac": lambda d: -2 * d}
        found = minimize(
            lambda d: (d - x) @ (d - x), 0 * x, jac=lambda d: 2 * (d - x), method="SLSQP",
            bounds=list(zip(low, high, strict=True)), constraints=limit, options={"maxiter": 300},
        )  # fmt: skip
        found = found.x.clip(low, high)
        return found * min(1, radius / max(np.linalg.norm(found), 1e-30))
    n = len(x)
    limit = {"type": "ineq", "fun": lambda h: radius - h.sum(), "jac": lambda h: -np.ones(2 * n)}
    found = minimize(
        lambda h: ((h[:n] - h[n:] - x) ** 2).sum(), np.zeros(2 * n), method="SLSQP",
        jac=lambda h: np.concatenate([2 * (h[:n] - h[n:] - x), -2 * (h[:n] - h[n:] - x)]),
        bounds=[(0, b) for b in high] + [(0, -a) for a in low],
        constraints=limit, options={"maxiter": 300},
    ).x  # fmt: skip
    found = (found[:n] - found[n:]).clip(low, high)
    return found * min(1, radius / max(np.abs(found).sum(), 1e-30))


@norms
@few
@given(problem=problems())
def test_projecting_twice_changes_nothing_more_and_no_case_needs_another(norm, problem):
    point = ONTO[norm](*problem)
    torch.testing.assert_close(ONTO[norm](point, *problem[1:]), point, atol=1e-12, rtol=1e-12)
    for case in range(len(point)):
        alone = ONTO[norm](*(t[case : case + 1] for t in problem))
        torch.testing.assert_close(alone[0], point[case], atol=1e-12, rtol=1e-12)


@norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [1e-30, 1.0, 1e6, 1e20, 3e37])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)])
def test_points_far_outside_come_back_finite_and_nearest(norm, dtype, far, bounds):
    stream = torch.Generator().manual_seed(5)
    centre = torch.rand(2, 1, 9, 9, generator=stream).to(dtype)
    away = torch.randn(2, 1, 9, 9, generator=stream).to(dtype)
    ball = Ball(norm, 2.0, bounds)
    found = ball.project(centre + far * away, centre)
    assert found.isfinite().all()
    length = torch.linalg.vector_norm((found - centre).flatten(1), ORDER[norm], dim=1)
    assert (length <= 2 * (1 + 1e-5)).all()
    assert found.min() >= bounds[0]
    assert found.max() <= bounds[1]
    if far >= 1e6:  # the whole radius is used: in double precision it is found to rounding
        assert (length >= 2 * (1 - 1e-5)).all()
    slack = 1e-4 if dtype == torch.float32 else 1e-12
    if 1e6 <= far <= 1e20 and norm == "l2":
        exact = ball.project((centre.double() + far * away.double()), centre.double())
        torch.testing.assert_close(found.double(), exact, atol=slack, rtol=0)


@norms
def test_a_large_ball_in_a_small_box_gives_the_nearest_point_of_the_box(norm):
    stream = torch.Generator().manual_seed(6)
    centre, image = torch.rand(2, 1, 5, 5, generator=stream), 9 * torch.randn(2, 1, 5, 5)
    found = Ball(norm, 1e4, (0, 1)).project(image, centre)
    torch.testing.assert_close(found, image.clamp(0, 1))


def test_the_nearest_point_is_nearer_than_the_norm_first_and_the_bounds_after():
    centre, image = torch.tensor([[[0.9, 0.5, 0.5]]]), torch.tensor([[[9.9, 1.5, 0.5]]])
    found = Ball("l2", 0.5, (0, 1)).project(image, centre)
    expected = torch.tensor([[[1.0, 0.5 + math.sqrt(0.25 - 0.01), 0.5]]])
    torch.testing.assert_close(found, expected)
    found = Ball("l1", 0.5, (0, 1)).project(image, centre)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.9, 0.5]]]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problem=problems(most=12))
def test_the_corner_solves_the_linear_programme(problem):
    slope, radius, low, high = problem
    corner = corner_l1(*problem)
    assert ((corner >= low) & (corner <= high)).all()
    for case in range(len(slope)):
        g, n = slope[case].numpy(), slope.shape[1]
        limits = [(0, b) for b in high[case].tolist()] + [(0, -a) for a in low[case].tolist()]
        best = linprog(
            np.concatenate([-g, g]), A_ub=np.ones((1, 2 * n)), b_ub=[float(radius[case])],
            bounds=[(0, None if math.isinf(b) else b) for _, b in limits],
        )  # fmt: skip
        scale = max(float(np.abs(g).max()), 1e-9)
        assert float(corner[case] @ slope[case]) == pytest.approx(-best.fun, abs=1e-8 * scale)
        assert corner[case].abs().sum() <= radius[case] * (1 + 1e-12)
