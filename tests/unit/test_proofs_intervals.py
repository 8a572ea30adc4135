"""Intervals hold what an affine node computes exactly, whatever the size of its numbers."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.intervals import box, interval
from robustbench_med.proofs.network import Network, Node, size
from robustbench_med.proofs.proof import InputSet, Leaf
from robustbench_med.proofs.relaxation import lines
from robustbench_med.proofs.rounding import least, least_in_ball


def wild(stream, *shape):
    """Numbers between 10^-12 and 10^12, so that sums of them round badly."""
    return stream.normal(size=shape) * 10 ** stream.uniform(-12, 12, size=shape)


def window(**more):
    return {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": (1,), **more}


NODES = {
    "conv": (
        lambda s: Node("conv", (0,), (2, 2, 2),
                       {"weight": wild(s, 2, 2, 3, 2), "bias": wild(s, 2)}, window()),
        (2, 4, 4)),
    "conv_transpose": (
        lambda s: Node("conv_transpose", (0,), (2, 5, 6),
                       {"weight": wild(s, 2, 2, 3, 2), "bias": wild(s, 2)},
                       window(output_padding=(0, 0))),
        (2, 3, 4)),
    "dense": (
        lambda s: Node("dense", (0,), (3,), {"weight": wild(s, 3, 6), "bias": wild(s, 3)}), (6,)),
    "along": (
        lambda s: Node("along", (0,), (2, 2), {"weight": wild(s, 2, 5)}, {"axis": (1,)}), (2, 5)),
    "scale": (
        lambda s: Node("scale", (0,), (2, 3), {"factor": wild(s, 2, 1), "shift": wild(s, 3)}),
        (2, 3)),
    "take": (
        lambda s: Node("take", (0,), (5,), {"index": np.array([1, 1, 0, 1, 1])}, {"axis": (0,)}),
        (3,)),
    "pad": (lambda s: Node("pad", (0,), (4, 3), {}, {"before": (1, 0), "after": (1, 1)}), (2, 2)),
    "permute": (lambda s: Node("permute", (0,), (3, 2), {}, {"axes": (1, 0)}), (2, 3)),
    "reshape": (lambda s: Node("reshape", (0,), (3, 2)), (2, 3)),
}  # fmt: skip


def rational(array):
    return [Fraction(float(x)) for x in np.asarray(array).ravel()]


def exactly(node, shape, point):
    """The value in rational numbers: the node's matrix holds its weights unrounded."""
    still = np.zeros((1, *shape))
    offset = rational(forward(node, [still]))
    names = {"bias", "shift"} & set(node.arrays)
    arrays = {name: a * 0 if name in names else a for name, a in node.arrays.items()}
    bare = replace(node, arrays=arrays)
    matrix = forward(bare, [np.eye(size(shape)).reshape(-1, *shape)]).reshape(size(shape), -1)
    return [
        sum((w * x for w, x in zip(rational(column), rational(point), strict=True)), start)
        for column, start in zip(matrix.T, offset, strict=True)
    ]


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("width", [0.0, 1e-9, 1.0])
def test_exact_values_at_corners_lie_within_intervals_and_linear_limits(name, seed, width):
    made, shape = NODES[name]
    stream = np.random.default_rng(seed)
    node, centre = made(stream), wild(stream, *shape)
    inputs = InputSet(centre - width * np.abs(centre), centre + width * np.abs(centre))
    low, high = interval(node, [(inputs.low, inputs.high)])
    network = Network((Node("input", (), shape), node))
    rows = wild(stream, 2, size(node.shape))
    columns = np.tile(np.arange(size(node.shape)), (2, 1))
    leaf, base = Leaf(0, np.arange(2)), derive(network, inputs)
    found = rational(limits(network, inputs, base, leaf, columns, rows))
    for _ in range(4):
        point = np.where(stream.random(shape) < 0.5, inputs.low, inputs.high)
        value = exactly(node, shape, point)
        assert all(
            a <= z <= b for a, z, b in zip(rational(low), value, rational(high), strict=True)
        )
        for row, limit in zip(rows, found, strict=True):
            assert limit <= sum(w * z for w, z in zip(rational(row), value, strict=True))


@pytest.mark.parametrize("kind", ["sum", "concat"])
def test_branches_keep_what_they_add_or_join(kind):
    stream = np.random.default_rng(0)
    settings_of = {} if kind == "sum" else {"axis": (0,)}
    node = Node(kind, (0, 1, 2), (4,) if kind == "sum" else (12,), {}, settings_of)
    values = [wild(stream, 4) for _ in range(3)]
    low, high = interval(node, [(value, value) for value in values])
    exact = [sum(each) for each in zip(*map(rational, values), strict=True)]
    exact = exact if kind == "sum" else [*itertools.chain(*map(rational, values))]
    assert all(a <= z <= b for a, z, b in zip(rational(low), exact, rational(high), strict=True))


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_least_values_over_a_box_and_a_ball_are_never_above_the_exact_ones(seed):
    stream = np.random.default_rng(seed)
    rows, centre = wild(stream, 1, 6), wild(stream, 6)
    width = np.abs(centre) * 10.0 ** stream.integers(-18, 1)
    low, high = centre - width, centre + width
    corner = np.where(rows[0] > 0, low, high)
    exact = sum(a * b for a, b in zip(rational(rows), rational(corner), strict=True))
    assert Fraction(float(least(rows, low, high)[0])) <= exact
    radius, free = np.abs(wild(stream, 1))[0], (stream.random(6) < 0.7).astype(np.float64)
    found = Fraction(float(least_in_ball(rows, centre, np.asarray(radius), free)[0]))
    middle = sum(a * b for a, b in zip(rational(rows), rational(centre), strict=True))
    squares = sum(a * a * Fraction(f) for a, f in zip(rational(rows), rational(free), strict=True))
    # found <= middle - radius * sqrt(squares), without a root
    room = middle - found
    assert room >= 0
    assert room**2 >= Fraction(float(radius)) ** 2 * squares


@given(
    st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_a_relu_lies_between_its_lines_in_exact_arithmetic(one, two, slope, place):
    low, high = sorted((one, two))
    drawn = lines(np.array([low]), np.array([high]), np.array([slope]))
    below, above, lift = (Fraction(float(x[0])) for x in (drawn.below, drawn.above, drawn.lift))
    first, last = Fraction(low), Fraction(high)
    for z in (first, last, first + Fraction(place) * (last - first), max(first, min(last, 0))):
        assert below * z <= max(z, 0) <= above * z + lift


def test_numbers_that_overflow_leave_no_limit_to_rely_on():
    node = Node("dense", (0,), (1,), {"weight": np.full((1, 3), 1e200), "bias": np.zeros(1)})
    value = np.array([1.7e108, 1.7e108, -1.7e108])
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = interval(node, [(value, value)])
        lowest = least(np.full((1, 3), 1e200), value, value)
    assert low[0] == -np.inf or low[0] <= 1.7e308
    assert high[0] >= 1.7e308
    assert lowest[0] == -np.inf or lowest[0] <= 1.7e308


def test_the_box_of_a_set_takes_in_its_ball():
    centre = np.array([0.5, 0.5])
    low, high = box(InputSet(centre - 1, centre + np.array([0.1, 1]), centre, 0.25))
    assert low == pytest.approx([0.25, 0.25])
    assert high == pytest.approx([0.6, 0.75])
    assert (low <= 0.25).all()
    apart = box(InputSet(np.zeros(1), np.ones(1), np.array([9.0]), 0.1))
    assert apart[0] <= apart[1]
