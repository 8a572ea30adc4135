"""Halving the input reaches the exact range of small sets, and the checker accepts the boxes."""

import functools
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_med.certify.cutting import Halving, cut_until
from robustbench_med.certify.input_sets import on_torch
from robustbench_med.certify.ranges import range_over
from robustbench_med.certify.torch_nodes import operations, values
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.proof import Claims, InputSet, Leaf, Proof

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tightening_fixture.py"))))
LIKE = torch.zeros((), dtype=torch.float64)
ROWS = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.5, 1.0]], dtype=torch.float64)


@functools.cache
def tiny(seed):
    """A network of two parameters, its set, the exact minimum of each row, and what is asked."""
    network = MADE.dense_network(seed, 2, 4, 4, 2)
    centre = np.random.default_rng(seed).uniform(size=2)
    inputs = InputSet(centre - 0.6, centre + 0.6)
    truth = np.array(
        [MADE.exact_minimum(network, inputs.low, inputs.high, r) for r in ROWS.numpy()]
    )
    return network, inputs, truth, (operations(network, LIKE), on_torch(inputs, LIKE))


def field_network(seed, dims=3):
    """A conv network of an 8 x 8 image under a bias field, as a function of its coefficients."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 8)] * 2), axis=-1).reshape(64, 2)
    basis = np.stack([np.ones(64), place[:, 0], place[:, 1]], axis=1)[:, :dims]
    image = rng.uniform(size=64)
    node, settings = MADE.Node, MADE.conv_settings(stride=2)
    return MADE.Network(
        (
            node("input", (), (dims,)),
            node("dense", (0,), (64,), {"weight": image[:, None] * basis, "bias": image}),
            node("reshape", (1,), (1, 8, 8)),
            node("conv", (2,), (4, 4, 4),
                 {"weight": rng.normal(size=(4, 1, 3, 3)) / 3, "bias": rng.normal(size=4) / 5},
                 settings),
            node("relu", (3,), (4, 4, 4)),
            node("reshape", (4,), (64,)),
            node("dense", (5,), (10,),
                 {"weight": rng.normal(size=(10, 64)) / 8, "bias": rng.normal(size=10) / 5}),
            node("relu", (6,), (10,)),
            node("dense", (7,), (2,), {"weight": rng.normal(size=(2, 10)), "bias": np.zeros(2)}),
        )
    )  # fmt: skip


def grid(sets, points):
    axes = [torch.linspace(0, 1, points, dtype=torch.float64)] * sets.low.shape[1]
    return sets.low + torch.cartesian_prod(*axes) * (sets.high - sets.low)


@pytest.mark.parametrize("seed", range(4))
def test_every_row_just_above_its_minimum_is_proved_and_just_below_falsified(seed):
    _, inputs, truth, (parts, sets) = tiny(seed)
    for row, end in zip(ROWS, truth, strict=True):
        proved = cut_until(parts, sets, row[None], needed=end - 1e-3)
        assert not proved.falsifiers
        assert end - 1e-3 <= proved.limits.item() <= end + 1e-9
        broken = cut_until(parts, sets, row[None], needed=end + 1e-3)
        point = broken.falsifiers[0]
        assert ((point.numpy() >= inputs.low) & (point.numpy() <= inputs.high)).all()
        assert values(parts, point[None])[-1][0] @ row < end + 1e-3
        assert broken.limits.item() <= end + 1e-9


@pytest.mark.parametrize("budget", [1, 2, 3, 9, 60])
def test_the_boxes_of_a_row_cover_the_set_once_and_hold(budget):
    _, _, truth, (parts, sets) = tiny(2)
    aim = float(truth.min()) - 1e-3
    found = cut_until(parts, sets, ROWS, needed=aim, halving=Halving(budget, together=2))
    assert found.boxes <= budget
    points = grid(sets, 41) + 1e-9
    outputs = values(parts, points)[-1] @ ROWS.T
    for row in range(3):
        times = torch.zeros(len(points))
        for piece in found.pieces:
            if row in piece.rows:
                inside = torch.ones(len(points), dtype=torch.bool)
                for cut in piece.cuts:
                    side = points[:, cut.element]
                    inside &= side <= cut.at if cut.side == "low" else side >= cut.at
                limit = piece.limits[piece.rows.index(row)]
                assert (outputs[inside, row] >= limit - 1e-6).all()
                assert found.limits[row] <= limit
                times += inside
        assert (times == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_checker_accepts_the_pieces(seed):
    network, inputs, truth, (parts, sets) = tiny(seed)
    found = cut_until(parts, sets, ROWS, needed=float(truth.min()) - 1e-2)
    assert (found.limits >= truth.min() - 1e-2).all()
    claims = Claims(np.tile([0, 1], (3, 1)), ROWS.numpy(), found.limits.numpy() - 1e-6)
    bases = tuple(derive(network, inputs, piece.cuts) for piece in found.pieces)
    leaves = tuple(Leaf(i, np.array(piece.rows)) for i, piece in enumerate(found.pieces))
    assert len(bases) > 1
    derived = check(network, Proof(inputs, claims, bases, leaves))
    assert (derived >= claims.limits).all()


@pytest.mark.parametrize("seed", range(2))
def test_the_range_of_two_parameters_is_reached_as_boxes_get_smaller(seed):
    network, inputs, truth, (parts, sets) = tiny(seed)
    top = [-MADE.exact_minimum(network, inputs.low, inputs.high, -row) for row in ROWS.numpy()]
    excess = []
    for boxes in (1, 8, 64, 256):
        found = range_over(parts, sets, ROWS, boxes=boxes)
        assert len(found.cuts) <= boxes
        assert (found.lower.numpy() <= truth + 1e-9).all()
        assert (found.upper.numpy() >= np.array(top) - 1e-9).all()
        excess.append((found.upper.numpy() - top + truth - found.lower.numpy()).sum())
    assert excess[0] >= excess[1] >= excess[2] >= excess[3]
    assert excess[3] < 5e-3


def test_a_bias_field_is_bounded_far_closer_in_boxes_than_whole():
    network = field_network(0)
    inputs = InputSet(np.full(3, -0.3), np.full(3, 0.3))
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    seen = values(parts, grid(sets, 21))[-1] @ ROWS.T
    widths = []
    for boxes in (1, 64):
        found = range_over(parts, sets, ROWS, boxes=boxes)
        assert (found.lower <= seen.amin(dim=0) + 1e-9).all()
        assert (found.upper >= seen.amax(dim=0) - 1e-9).all()
        widths.append((found.upper - found.lower) / (seen.amax(dim=0) - seen.amin(dim=0)))
    assert (widths[1] < widths[0]).all()
    assert (widths[1] < 1.1).all()


def test_a_row_that_is_linear_is_not_cut():
    node = MADE.Node
    network = MADE.Network(
        (node("input", (), (2,)),
         node("dense", (0,), (2,), {"weight": np.array([[1.0, 2], [0, 1]]), "bias": np.ones(2)}))
    )  # fmt: skip
    inputs = InputSet(-np.ones(2), np.ones(2))
    found = range_over(operations(network, LIKE), on_torch(inputs, LIKE), ROWS[2:], boxes=64)
    assert found.cuts == ((),)
    assert (found.lower.item(), found.upper.item()) == (-1, 4)


def test_a_side_that_no_open_relu_sees_is_left_alone():
    # 100 y + |x| - 0.5 x: only x is worth halving, though y moves the row far more.
    node = MADE.Node
    weight = np.array([[1.0, 0], [-1, 0], [0, 100]])
    network = MADE.Network(
        (node("input", (), (2,)),
         node("dense", (0,), (3,), {"weight": weight, "bias": np.array([0.0, 0, 1000])}),
         node("relu", (1,), (3,)),
         node("dense", (2,), (1,), {"weight": np.array([[0.5, 1.5, 1]]), "bias": np.zeros(1)}))
    )  # fmt: skip
    inputs = InputSet(np.array([-1.0, -1]), np.array([1.2, 1]))
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    found = range_over(parts, sets, LIKE.new_ones(1, 1), boxes=16)
    assert all(cut.element == 0 for cuts in found.cuts for cut in cuts)
    assert found.lower.item() == pytest.approx(900, abs=0.1)
    assert found.upper.item() == pytest.approx(1101.5, abs=0.1)


def test_in_an_l2_ball_boxes_close_in_on_the_ball():
    network = field_network(1, dims=2)
    centre = np.zeros(2)
    inputs = InputSet(centre - 0.5, centre + 0.5, centre, 0.5)
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    points = grid(sets, 101)
    seen = values(parts, points[points.norm(dim=1) <= 0.5])[-1] @ ROWS.T
    one, many = (range_over(parts, sets, ROWS, boxes=boxes) for boxes in (1, 64))
    for found in (one, many):
        assert (found.lower <= seen.amin(dim=0)).all()
        assert (found.upper >= seen.amax(dim=0)).all()
    assert ((many.upper - many.lower) < (one.upper - one.lower)).all()
