"""The projection onto a plane inside a box, against numerical solvers."""

import numpy as np
import pytest
import torch
from scipy import optimize

from robustbench_med.attacks.hyperplane import onto_plane

INF = float("inf")


def problem(seed, *, bounds=(0.0, 1.0), cases=12, size=7):
    """Points at all places of the box, also its faces, and planes that cross it or do not."""
    stream = np.random.default_rng(seed)
    low, high = (np.clip(end, -4, 4) for end in bounds)
    point = stream.uniform(low, high, (cases, size))
    if np.isfinite(bounds).all():
        point[:, 0], point[:, 1] = bounds
    slope = stream.normal(size=(cases, size))
    slope[:, 2] = 0
    value = stream.normal(size=cases) * np.linspace(0, 4, cases)
    return (torch.from_numpy(part) for part in (point, slope, value))


def moved(point, slope, value, bounds, norm):
    low, high = (torch.full_like(point, end) for end in bounds)
    move = onto_plane(point[:, None], slope[:, None], value, low[:, None], high[:, None], norm)
    return move[:, 0]


def crosses(point, slope, value, bounds):
    """Whether the largest change in the box, towards the plane, is enough."""
    way = -slope * value.sign()[:, None]
    room = torch.where(way > 0, bounds[1] - point, point - bounds[0]).where(way != 0, 0)
    return ((way.abs() * room).nan_to_num(nan=0).sum(dim=1) >= value.abs()).numpy()


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 2.0), (-INF, INF), (0.0, INF)])
@pytest.mark.parametrize("seed", [0, 1])
def test_under_linf_it_is_as_short_as_a_linear_program_finds(bounds, seed):
    point, slope, value = problem(seed, bounds=bounds)
    move = moved(point, slope, value, bounds, "linf")
    reachable = crosses(point, slope, value, bounds)
    assert reachable.any()
    for case in np.flatnonzero(reachable):
        size = point.shape[1]
        eye = np.eye(size)
        solved = optimize.linprog(
            np.r_[np.zeros(size), 1],
            A_ub=np.r_[np.c_[eye, -np.ones(size)], np.c_[-eye, -np.ones(size)]],
            b_ub=np.zeros(2 * size),
            A_eq=np.r_[slope[case].numpy(), 0][None],
            b_eq=[-value[case].item()],
            bounds=[*((bounds[0] - p, bounds[1] - p) for p in point[case].tolist()), (0, None)],
        )
        assert solved.success
        assert move[case].abs().max().item() == pytest.approx(solved.fun, abs=1e-8)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 2.0), (-INF, INF), (0.0, INF)])
@pytest.mark.parametrize("seed", [0, 1])
def test_under_l2_it_is_the_nearest_point_that_a_solver_finds(bounds, seed):
    point, slope, value = problem(seed, bounds=bounds, cases=6)
    move = moved(point, slope, value, bounds, "l2")
    reachable = crosses(point, slope, value, bounds)
    for case in np.flatnonzero(reachable):
        normal = slope[case].numpy()
        solved = optimize.minimize(
            lambda d: d @ d,
            np.zeros(point.shape[1]),
            jac=lambda d: 2 * d,
            method="SLSQP",
            bounds=[(bounds[0] - p, bounds[1] - p) for p in point[case].tolist()],
            constraints={"type": "eq", "fun": lambda d: normal @ d + value[case].item(),  # noqa: B023
                         "jac": lambda d: normal},  # noqa: B023
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert solved.success
        np.testing.assert_allclose(move[case].numpy(), solved.x, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-INF, INF), (0.0, INF)])
def test_it_ends_on_the_plane_and_in_the_box_or_as_near_as_the_box_allows(norm, bounds):
    point, slope, value = problem(3, bounds=bounds, cases=40)
    move = moved(point, slope, value, bounds, norm)
    assert move.isfinite().all()
    ends = point + move
    assert (ends >= bounds[0]).all()
    assert (ends <= bounds[1]).all()
    left = value + (slope * move).sum(dim=1)
    reachable = torch.from_numpy(crosses(point, slope, value, bounds))
    assert left[reachable].abs().max() < 1e-10
    if not reachable.all():
        way = -slope * value.sign()[:, None]
        corner = torch.where(way > 0, *map(point.new_tensor, bounds[::-1])).where(way != 0, point)
        torch.testing.assert_close(ends[~reachable], corner[~reachable])
    else:
        assert bounds != (0.0, 1.0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_scale_of_the_function_does_not_matter(norm, scale):
    point, slope, value = problem(5)
    expected = moved(point, slope, value, (0.0, 1.0), norm)
    found = moved(*(x.float() for x in (point, slope * scale, value * scale)), (0.0, 1.0), norm)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_a_flat_function_a_value_of_0_and_a_full_box_move_nothing():
    one = torch.ones(1, 1, 3)
    for slope, value, room in ((0 * one, 1.0, 9.0), (one, 0.0, 9.0), (one, 1.0, 0.0)):
        for norm in ("linf", "l2", "l1"):
            move = onto_plane(one, slope, torch.tensor([value]), one - room, one + room, norm)
            assert move.abs().max() == 0


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 2.0), (-INF, INF), (0.0, INF)])
@pytest.mark.parametrize("seed", [0, 1])
def test_under_l1_it_is_as_short_as_a_linear_program_finds(bounds, seed):
    point, slope, value = problem(seed, bounds=bounds)
    move = moved(point, slope, value, bounds, "l1")
    reachable = crosses(point, slope, value, bounds)
    assert reachable.any()
    for case in np.flatnonzero(reachable):
        normal = slope[case].numpy()
        rise = [(0, bounds[1] - p) for p in point[case].tolist()]
        fall = [(0, p - bounds[0]) for p in point[case].tolist()]
        solved = optimize.linprog(
            np.ones(2 * len(normal)),
            A_eq=np.r_[normal, -normal][None],
            b_eq=[-value[case].item()],
            bounds=[*rise, *fall],
        )
        assert solved.success
        assert move[case].abs().sum().item() == pytest.approx(solved.fun, abs=1e-8)


def test_without_bounds_the_steepest_voxel_moves_alone_under_l1():
    point, slope, value = problem(4, bounds=(-INF, INF))
    move = moved(point, slope, value, (-INF, INF), "l1")
    steepest = slope.abs().argmax(dim=1)
    assert torch.equal((move != 0).sum(dim=1), (value != 0).long())
    torch.testing.assert_close(
        move.abs().amax(dim=1), value.abs() / slope.abs().amax(dim=1), rtol=1e-12, atol=0
    )
    assert torch.equal(move.abs().argmax(dim=1)[1:], steepest[1:])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rooms_of_all_sizes_are_filled_exactly(norm):
    """Newton's method has a kink to pass for every voxel, at places 60 powers of 2 apart."""
    size = 60
    slope = torch.ones(1, 1, size, dtype=torch.float64)
    room = 2.0 ** -torch.arange(size, dtype=torch.float64)[None, None]
    for value in (1e-15, 1e-3, 1.0, 1.9):
        move = onto_plane(
            0 * slope, slope, torch.tensor([-value], dtype=torch.float64), -room, room, norm
        )
        assert move.sum().item() == pytest.approx(value, rel=1e-12)
        longest = move.max()
        torch.testing.assert_close(move, room.clamp(max=longest), rtol=1e-12, atol=0)
