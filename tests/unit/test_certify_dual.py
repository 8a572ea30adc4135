"""Slopes and multipliers never lower a limit, hold against the truth, and satisfy the checker."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med import bound
from robustbench_med.certify.backward import Problem, backward
from robustbench_med.certify.dual import Ascent, improved, leaf
from robustbench_med.certify.hidden import hidden_limits, limits_of
from robustbench_med.certify.input_sets import Sets, on_torch
from robustbench_med.certify.splitting import Sub, started_at
from robustbench_med.certify.torch_nodes import operations, values
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.proof import Claims, Cut, InputSet, Proof

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tightening_fixture.py"))))
LIKE = torch.zeros((), dtype=torch.float64)


def problem_of(network, low, high, rows, like=LIKE):
    """A problem for some rows over a box, and the limits that it stands on."""
    parts = operations(network, like)
    sets = on_torch(InputSet(low, high), like)
    known, last = hidden_limits(parts, sets), len(parts) - 1
    start = {last: torch.as_tensor(rows).to(like).view(-1, *parts[last].node.shape)}
    return Problem(parts, start, known.lines, sets), known


def small_conv(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(36, 3),
        ).eval()  # fmt: skip


def tiny(seed):
    network = MADE.dense_network(seed, 2, 4, 3, 2)
    centre = np.random.default_rng(seed).uniform(size=2)
    return network, centre - 0.5, centre + 0.5


@pytest.mark.parametrize("steps", [0, 1, 30])
@pytest.mark.parametrize("seed", range(4))
def test_climbing_never_ends_lower_and_never_above_the_truth(seed, steps):
    network, low, high = tiny(seed)
    rows = np.array([[1.0, -1.0], [-1.0, 1.0], [0.5, 2.0]])
    problem, known = problem_of(network, low, high, rows)
    start = backward(problem, known.slopes).limits
    dual = improved(problem, known.slopes, needed=torch.inf, ascent=Ascent(steps=steps))
    assert (dual.limits >= start).all()
    for limit, row in zip(dual.limits.tolist(), rows, strict=True):
        assert limit <= MADE.exact_minimum(network, low, high, row) + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_returned_gives_the_limits_again(dtype):
    network, low, high = tiny(1)
    problem, known = problem_of(network, low, high, np.eye(2), torch.zeros((), dtype=dtype))
    dual = improved(problem, known.slopes, needed=torch.inf)
    again = backward(problem, dual.slopes, dual.multipliers)
    assert torch.allclose(again.limits, dual.limits, atol=1e-5)
    assert torch.allclose(again.coefficient, dual.coefficient, atol=1e-5)
    assert dual.limits.dtype == dtype
    assert all(((slope >= 0) & (slope <= 1)).all() for slope in dual.slopes.values())


def test_slopes_climb_above_auto_lirpas_crown_and_the_closed_start_is_no_lower():
    gains = []
    for seed in range(4):
        network = small_conv(seed)
        centre = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        low, high = centre - 0.05, centre + 0.05
        rows = torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]])
        theirs, upper = bound(network, low, high, rows, method="crown")
        written = MADE.written(network, (1, 8, 8))
        problem, known = problem_of(
            written, low[0].double().numpy(), high[0].double().numpy(), rows
        )
        start = backward(problem, known.slopes).limits
        # Theirs bounds by intervals first as well, but chooses which neurons need lines otherwise.
        assert torch.allclose(start.float(), theirs[0], atol=2e-3)
        dual = improved(problem, known.slopes, needed=torch.inf)
        assert (dual.limits >= theirs[0].double() - 1e-5).all()
        gains.append(((dual.limits - theirs[0]) / (upper - theirs)[0]).mean().item())
    assert np.mean(gains) > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_attacks_find_nothing_below_a_limit(seed):
    network = small_conv(seed)
    written = MADE.written(network, (1, 8, 8))
    centre = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    rows = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    problem, known = problem_of(written, *(centre[0].numpy() + x for x in (-0.1, 0.1)), rows)
    dual = improved(problem, known.slopes, needed=torch.inf)
    noise = torch.rand(6, 20, 1, 8, 8, generator=torch.Generator().manual_seed(9)).double()
    noise[:, :10] = noise[:, :10].round()
    offset = (0.2 * noise - 0.1).requires_grad_()
    lowest = torch.full((6,), torch.inf, dtype=torch.float64)
    for step in range(30):
        images = (centre + offset).flatten(0, 1)
        found = (values(problem.parts, images)[-1].view(6, 20, 3) * rows[:, None]).sum(dim=-1)
        lowest = torch.minimum(lowest, found.detach().amin(dim=1))
        (slope,) = torch.autograd.grad(found.sum(), offset)
        moved = offset.detach() - 0.05 * 0.9**step * slope.sign()
        offset = moved.clamp(-0.1, 0.1).requires_grad_()
    assert (dual.limits <= lowest + 1e-9).all()
    assert (lowest - dual.limits).mean() < 0.5 * lowest.abs().mean() + 0.5


CUTS = (Cut(2, 1, "high"), Cut(4, 2, "low"), Cut(2, 3, "low"))


def cut_problem(network, low, high, row, cuts):
    problem, known = problem_of(network, low, high, row[None])
    own = {at: slope.clone() for at, slope in known.slopes.items()}
    found = backward(problem, own)
    root = Sub((), found.limits.item(), own, problem.sets.low.new_zeros(1, 0), found.relus)
    start = started_at(problem, known, [(root, cuts[:1])])
    sub = root
    for depth in range(1, len(cuts) + 1):
        start = started_at(problem, known, [(sub, cuts[:depth])])
        found = backward(start.problem, start.slopes, start.multipliers)
        sub = Sub(cuts[:depth], found.limits.item(), start.slopes, start.multipliers, found.relus)
    return start, known


@pytest.mark.parametrize("seed", range(4))
def test_multipliers_of_cuts_bound_each_side_and_gain_on_it(seed):
    network, low, high = tiny(seed)
    row = np.array([1.0, -1.0])
    for flips in range(8):
        cuts = tuple(
            Cut(cut.node, cut.element, ("low", "high")[flips >> i & 1])
            for i, cut in enumerate(CUTS)
        )
        start, _ = cut_problem(network, low, high, row, cuts)
        before = backward(start.problem, start.slopes, start.multipliers).limits.item()
        ascent = Ascent(steps=100, decay=0.97)
        dual = improved(
            start.problem, start.slopes, start.multipliers, needed=torch.inf, ascent=ascent
        )
        assert before <= dual.limits.item()
        assert (dual.multipliers >= 0).all()
        truth = MADE.exact_minimum(network, low, high, row, cuts)
        assert dual.limits.item() <= truth + 1e-9  # infinite where the cuts contradict


def test_multipliers_reach_the_truth_where_the_network_is_linear():
    # max(x, 0) - 1.5 x over [-1, 1].
    nodes = MADE.dense_network(0, 1, 1, 1).nodes
    one = {"weight": np.ones((1, 1)), "bias": np.zeros(1)}
    network = MADE.Network(
        (nodes[0], MADE.Node("dense", (0,), (1,), one), MADE.Node("relu", (1,), (1,)),
         MADE.Node("scale", (0,), (1,), {"factor": np.array([-1.5]), "shift": np.zeros(1)}),
         MADE.Node("sum", (2, 3), (1,)))
    )  # fmt: skip
    problem, known = problem_of(network, -np.ones(1), np.ones(1), np.ones((1, 1)))
    root = Sub(
        (), 0.0, dict(known.slopes), LIKE.new_zeros(1, 0), backward(problem, known.slopes).relus
    )
    start = started_at(problem, known, [(root, (Cut(2, 0, "low"),)), (root, (Cut(2, 0, "high"),))])
    steps = Ascent(steps=100, decay=0.97)
    dual = improved(start.problem, start.slopes, start.multipliers, needed=torch.inf, ascent=steps)
    # Below 0 it is -1.5 x, at least 0, which needs a multiplier of 1.5; above it is -0.5 x.
    assert dual.limits[0].item() == pytest.approx(0, abs=0.02)
    assert dual.multipliers[0, 0].item() == pytest.approx(1.5, abs=0.02)
    assert dual.limits[1].item() == pytest.approx(-0.5, abs=1e-9)


@pytest.mark.parametrize("ball", [False, True])
def test_the_checker_accepts_improved_slopes_and_derives_the_same_limits(ball):
    network = MADE.mixed_network()
    centre = np.random.default_rng(0).normal(size=(2, 5, 6))
    inputs = InputSet(centre - 0.2, centre + 0.2, *((centre, 0.6) if ball else ()))
    base = derive(network, inputs)
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    known = limits_of(
        {at: torch.as_tensor(side)[None] for at, side in base.lower.items()},
        {at: torch.as_tensor(side)[None] for at, side in base.upper.items()},
    )
    rows = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    problem = Problem(parts, {len(parts) - 1: rows}, known.lines, sets)
    dual = improved(problem, known.slopes, needed=torch.inf)
    assert (dual.limits > backward(problem, known.slopes).limits + 1e-6).any()
    columns = np.tile(np.arange(3), 2)[:, None]
    factors = np.repeat([1.0, -1.0], 3)[:, None]
    claims = Claims(columns, factors, dual.limits.numpy() - 1e-7)
    own = leaf(dual.slopes, dual.multipliers, (), np.arange(6))
    derived = check(network, Proof(inputs, claims, (base,), (own,)))
    assert (derived >= claims.limits).all()


def test_a_settled_relu_has_the_one_slope_that_it_can_have():
    network, low, high = tiny(0)
    problem, known = problem_of(network, low, high, np.eye(2))
    halves = {at: torch.full_like(slope, 0.5) for at, slope in known.slopes.items()}
    dual = improved(problem, halves, ascent=Ascent(steps=0))
    for at, slope in dual.slopes.items():
        expected = torch.where(known.lower[at] >= 0, 1.0, torch.where(known.upper[at] <= 0, 0, 0.5))
        assert torch.equal(slope, expected.double().expand_as(slope))


def test_a_row_that_is_proved_stops_and_leaves_the_others_as_they_would_be():
    network, low, high = tiny(2)
    rows = np.array([[1.0, -1.0], [-1.0, 1.0]])
    problem, known = problem_of(network, low, high, rows)
    start = backward(problem, known.slopes).limits
    aim = start.max().item() - 1e-6
    dual = improved(problem, known.slopes, needed=aim, ascent=Ascent(steps=4, patience=100))
    worse = int(start.argmin())
    only = problem.pick(torch.tensor([worse]))
    alone = improved(only, known.slopes, needed=aim, ascent=Ascent(steps=4, patience=100))
    assert dual.limits[1 - worse] == start[1 - worse]
    assert dual.limits[worse].item() == pytest.approx(alone.limits.item(), abs=1e-12)


def test_sets_of_one_batch_are_bounded_each_by_itself():
    network, low, high = tiny(3)
    parts = operations(network, LIKE)
    lows, highs = torch.as_tensor(np.stack([low, low + 0.2])), torch.as_tensor(np.stack([high] * 2))
    sets = Sets(lows, highs)
    known = hidden_limits(parts, sets)
    rows = torch.tensor([[1.0, -1.0]] * 2, dtype=torch.float64)
    dual = improved(
        Problem(parts, {len(parts) - 1: rows}, known.lines, sets), known.slopes, needed=torch.inf
    )
    for i in range(2):
        problem, own = problem_of(network, lows[i].numpy(), highs[i].numpy(), rows[:1])
        alone = improved(problem, own.slopes, needed=torch.inf)
        assert dual.limits[i].item() == pytest.approx(alone.limits.item(), abs=1e-10)


def test_a_network_without_relus_is_bounded_exactly():
    network = MADE.dense_network(0, 3, 2)
    weight, bias = network.nodes[1].arrays["weight"], network.nodes[1].arrays["bias"]
    problem, known = problem_of(network, -np.ones(3), np.ones(3), np.eye(2))
    dual = improved(problem, known.slopes)
    np.testing.assert_allclose(dual.limits.numpy(), bias - np.abs(weight).sum(axis=1))
    assert leaf(dual.slopes, dual.multipliers, (), np.arange(2)).slopes == {}
