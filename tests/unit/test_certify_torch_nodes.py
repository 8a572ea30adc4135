"""Nodes in torch compute what NumPy's do; transposes are adjoint; intervals enclose."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_med.certify.backward import Problem, adaptive, backward, lines
from robustbench_med.certify.hidden import hidden_limits
from robustbench_med.certify.input_sets import Sets, least, minimiser, on_torch
from robustbench_med.certify.torch_nodes import linear, operations, transposed, values
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import InputSet

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tightening_fixture.py"))))
LIKE = torch.zeros((), dtype=torch.float64)
NETWORK = MADE.mixed_network()
KINDS = [
    pytest.param(i, id=f"{i}-{node.kind}")
    for i, node in enumerate(NETWORK.nodes)
    if node.kind not in ("input", "relu")
]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_kind_of_node_is_there():
    assert len({node.kind for node in NETWORK.nodes}) == 13


def test_values_are_those_that_numpy_computes():
    images = drawn(3, 2, 5, 6)
    found = values(operations(NETWORK, LIKE), images)
    for mine, theirs in zip(found, values_of_cases(NETWORK, images.numpy()), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("position", KINDS)
def test_a_transpose_is_adjoint_to_its_node(position):
    part = operations(NETWORK, LIKE)[position]
    inputs = [drawn(2, *shape, seed=i) for i, shape in enumerate(part.sources)]
    outputs = drawn(2, *part.node.shape, seed=9)
    forward = (linear(part, inputs) * outputs).flatten(1).sum(dim=1)
    back = transposed(part, outputs)
    found = sum((x * y).flatten(1).sum(dim=1) for x, y in zip(inputs, back, strict=True))
    assert torch.allclose(forward, found, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("axes", [1, 3])
def test_transposes_of_convolutions_are_adjoint_at_any_stride(axes, stride, dilation):
    node = MADE.Node
    length = 11
    out = (length + 2 - 2 * dilation - 1) // stride + 1
    settings = MADE.conv_settings(axes, stride, 1, dilation)
    rest = (max(stride, dilation) - 1,) * axes
    grown = (out - 1) * stride - 2 + 2 * dilation + 1 + rest[0]
    network = MADE.Network(
        (
            node("input", (), (2, *(length,) * axes)),
            node("conv", (0,), (3, *(out,) * axes),
                 {"weight": np.ones((3, 2, *(3,) * axes)), "bias": np.ones(3)}, settings),
            node("conv_transpose", (1,), (2, *(grown,) * axes),
                 {"weight": np.ones((3, 2, *(3,) * axes)), "bias": np.ones(2)},
                 {**settings, "output_padding": rest}),
        )
    )  # fmt: skip
    for part in operations(network, LIKE)[1:]:
        inputs, outputs = drawn(1, *part.sources[0]), drawn(1, *part.node.shape, seed=1)
        forward = (linear(part, [inputs]) * outputs).sum()
        assert torch.allclose(forward, (inputs * transposed(part, outputs)[0]).sum())


@pytest.mark.parametrize("ball", [False, True])
def test_hidden_limits_enclose_samples_and_are_nearly_those_of_the_checker(ball):
    centre = drawn(2, 5, 6).numpy()
    inputs = InputSet(centre - 0.3, centre + 0.3, *((centre, 0.8) if ball else ()))
    parts = operations(NETWORK, LIKE)
    found = hidden_limits(parts, on_torch(inputs, LIKE))
    base = derive(NETWORK, inputs)
    noise = drawn(2000, 2, 5, 6, seed=3).clamp(-1, 1) * 0.3
    if ball:
        noise = noise * (0.8 / noise.flatten(1).norm(dim=1).clamp(min=0.8)).view(-1, 1, 1, 1)
    seen = values(parts, torch.as_tensor(centre) + noise)
    for relu in NETWORK.relus:
        value = seen[NETWORK.nodes[relu].inputs[0]]
        assert (found.lower[relu] <= value + 1e-12).all()
        assert (value <= found.upper[relu] + 1e-12).all()
        # The checker also rests on intervals on the way back, so it may be the closer one; what
        # one limit settles it leaves at that.
        low, high = found.lower[relu][0].numpy(), found.upper[relu][0].numpy()
        is_open = (base.lower[relu] < 0) & (base.upper[relu] > 0)
        below, above = base.lower[relu][is_open], base.upper[relu][is_open]
        assert (low[is_open] <= below + 1e-6).all()
        assert (high[is_open] >= above - 1e-6).all()
        assert (high - low)[is_open].mean() <= 1.01 * (above - below).mean()


def test_limits_of_several_sets_at_once_are_those_of_each_alone():
    centre, parts = drawn(3, 2, 5, 6), operations(NETWORK, LIKE)
    sizes = torch.tensor([0.1, 0.3, 0.5], dtype=torch.float64).view(3, 1, 1, 1)
    together = hidden_limits(parts, Sets(centre - sizes, centre + sizes), budget=20_000)
    for i in range(3):
        one = slice(i, i + 1)
        alone = hidden_limits(parts, Sets((centre - sizes)[one], (centre + sizes)[one]))
        for relu in NETWORK.relus:
            assert torch.allclose(together.lower[relu][one], alone.lower[relu], atol=1e-10)
            assert torch.allclose(together.upper[relu][one], alone.upper[relu], atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_every_slope_gives_a_line_below_the_rows(seed):
    parts, centre = operations(NETWORK, LIKE), drawn(1, 2, 5, 6, seed=seed)
    sets = Sets(centre - 0.4, centre + 0.4)
    known, last = hidden_limits(parts, sets), len(parts) - 1
    slopes = {at: torch.rand_like(side) for at, side in known.lower.items()}
    rows = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    found = backward(Problem(parts, {last: rows}, known.lines, sets), slopes)
    points = centre + (drawn(3000, 2, 5, 6, seed=seed + 5)).clamp(-1, 1) * 0.4
    outputs = values(parts, points)[-1] @ rows.T
    below = points.flatten(1) @ found.coefficient.flatten(1).T + found.constant
    assert (below <= outputs + 1e-10).all()
    assert (found.limits <= below.amin(dim=0) + 1e-10).all()
    corner = minimiser(sets, found.coefficient)
    reached = (corner * found.coefficient).flatten(1).sum(dim=1)
    assert torch.allclose(reached + found.constant, found.limits)


def test_lines_touch_the_relu_and_adaptive_slopes_leave_the_smaller_area():
    low = torch.tensor([-1.0, -3.0, 1.0, -2.0, 0.0])
    high = torch.tensor([3.0, 1.0, 2.0, -1.0, 0.0])
    between = lines(low, high)
    assert torch.equal(between.steep * low + between.lift, low.relu())
    assert torch.equal(between.steep * high + between.lift, high.relu())
    assert between.open.tolist() == [True, True, False, False, False]
    assert adaptive(low, high).tolist()[:3] == [1, 0, 1]


def test_the_least_over_box_and_ball_is_the_better_of_both():
    centre = drawn(1, 5)
    sets = Sets(centre - 1, centre + 0.5, centre, 0.9)
    rows = drawn(40, 5, seed=1)
    box = (rows.clamp(min=0) * sets.low + rows.clamp(max=0) * sets.high).sum(dim=1)
    ball = (rows * centre).sum(dim=1) - 0.9 * rows.norm(dim=1)
    found = least(sets, rows)
    assert torch.allclose(found, torch.maximum(box, ball))
    points = minimiser(sets, rows)
    assert ((points >= sets.low - 1e-12) & (points <= sets.high + 1e-12)).all()
    assert ((points - centre).norm(dim=1) <= 0.9 + 1e-12).all()
    assert ((points * rows).sum(dim=1) >= found - 1e-12).all()


def test_a_flip_written_out_is_read():
    index = np.arange(3)[::-1]  # which runs backwards in memory
    nodes = (Node("input", (), (3,)), Node("take", (0,), (3,), {"index": index}, {"axis": (0,)}))
    parts = operations(Network(nodes), torch.zeros((), dtype=torch.float64))
    assert values(parts, torch.tensor([[1.0, 2, 3]]).double())[-1].tolist() == [[3, 2, 1]]
