"""Derived limits hold in exact arithmetic and against exact minima of tiny networks."""

import itertools
import runpy
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network, Node, size
from robustbench_med.proofs.proof import Claims, Cut, InputSet, Leaf, Proof

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("proofs_fixture.py"))))
dense, skipping, around = MADE.dense, MADE.skipping, MADE.around
exact_minimum, exactly = MADE.exact_minimum, MADE.exactly
ROWS = np.array([[1.0, 0.0], [0.0, -1.0], [1.0, -1.0]])
COLUMNS = np.tile([0, 1], (3, 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hidden", ["linear", "intervals"])
def test_exact_minima_of_a_skip_connected_network_lie_above_its_limits(seed, hidden):
    network, inputs = skipping(seed), around([0.3, -0.2], 0.5)
    base = derive(network, inputs, hidden=hidden)
    found = limits(network, inputs, base, Leaf(0, np.arange(3)), COLUMNS, ROWS)
    truth = [exact_minimum(network, inputs, row) for row in ROWS]
    assert (found <= np.array(truth) + 1e-9).all()
    assert (found > -100).all()


@pytest.mark.parametrize("seed", range(3))
def test_exact_ranges_of_what_a_relu_sees_lie_within_a_base(seed):
    network, inputs = skipping(seed), around([0.3, -0.2], 0.5)
    base = derive(network, inputs)
    for relu in network.relus:
        source = network.nodes[relu].inputs[0]
        before = Network(network.nodes[: source + 1])
        for i, row in enumerate(np.eye(size(before.nodes[-1].shape))):
            if before.relus:
                assert base.lower[relu][i] <= exact_minimum(before, inputs, row) + 1e-9
                assert -exact_minimum(before, inputs, -row) - 1e-9 <= base.upper[relu][i]


def test_limits_are_exact_where_no_sign_is_open():
    network, inputs = skipping(1), around([0.3, -0.2], 1e-4)
    base = derive(network, inputs)
    found = limits(network, inputs, base, Leaf(0, np.arange(3)), COLUMNS, ROWS)
    truth = [exact_minimum(network, inputs, row) for row in ROWS]
    assert np.allclose(found, truth, atol=1e-9)


@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_minima_of_a_half_lie_above_its_limits_with_any_slope_and_multiplier(seed, side):
    network, inputs = skipping(seed), around([0.3, -0.2], 0.5)
    base, stream = derive(network, inputs), np.random.default_rng(seed)
    element = int(np.argmin(np.abs(base.lower[5] + base.upper[5])))
    cuts = (Cut(5, element, side), Cut(2, 0, "high"))
    truth = np.array([exact_minimum(network, inputs, row, cuts) for row in ROWS])
    tightest = np.full(3, -np.inf)
    for _ in range(20):
        slopes = {at: stream.random((3, *network.nodes[at].shape)) for at in (2, 8)}
        leaf = Leaf(0, np.arange(3), cuts, slopes, stream.exponential(size=(3, 2)))
        found = limits(network, inputs, base, leaf, COLUMNS, ROWS)
        assert (found <= truth + 1e-9).all()
        tightest = np.maximum(tightest, found)
    assert (tightest > -100).all()


def test_a_multiplier_of_a_cut_closes_what_the_cut_alone_leaves():
    # x - relu(x) is 0 on the high side; with z = x the line alone gives nothing of x itself.
    network = Network((
        Node("input", (), (1,)),
        dense(0, np.array([[1.0]]), np.zeros(1)),
        Node("relu", (1,), (1,)),
        Node("concat", (1, 2), (2,), {}, {"axis": (0,)}),
    ))  # fmt: skip
    inputs = InputSet(np.array([-1.0]), np.array([1.0]))
    base, cuts = derive(network, inputs), (Cut(2, 0, "high"),)
    row, column = np.array([[1.0, 0.0]]), np.array([[0, 1]])
    plain = limits(network, inputs, base, Leaf(0, np.arange(1), cuts), column, row)
    held = Leaf(0, np.arange(1), cuts, multipliers=np.array([[1.0]]))
    better = limits(network, inputs, base, held, column, row)
    assert plain == pytest.approx(-1)
    assert better == pytest.approx(0)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6), power=st.sampled_from([0, 1, 4, 9]),
    radius=st.sampled_from([0.0, 1e-17, 1e-9, 1e-3, 1.0]), ball=st.booleans(),
)  # fmt: skip
def test_no_point_of_the_set_breaks_a_limit_in_exact_arithmetic(seed, power, radius, ball):
    network, stream = skipping(seed, power=power), np.random.default_rng(seed)
    centre = stream.normal(size=2)
    inputs = around(centre, radius)
    if ball:
        inputs = InputSet(inputs.low, inputs.high, centre, radius / 2)
    base = derive(network, inputs)
    leaf = Leaf(0, np.arange(3))
    found = limits(network, inputs, base, leaf, COLUMNS, ROWS)
    apart = Proof(inputs, Claims(COLUMNS, ROWS, np.full(3, -np.inf)))
    found = np.maximum(found, check(network, apart))
    corners = [
        np.array(each) for each in itertools.product(*zip(inputs.low, inputs.high, strict=True))
    ]
    points = [centre] if ball else [centre, *corners, stream.uniform(inputs.low, inputs.high)]
    for point in points:
        values = exactly(network, point)
        for relu in network.relus:
            seen = values[network.nodes[relu].inputs[0]]
            assert all(
                Fraction(x) <= z for x, z in zip(base.lower[relu].tolist(), seen, strict=True)
            )
            assert all(
                Fraction(x) >= z for x, z in zip(base.upper[relu].tolist(), seen, strict=True)
            )
        for row, limit in zip(ROWS.tolist(), found.tolist(), strict=True):
            total = sum(Fraction(w) * x for w, x in zip(row, values[-1], strict=True))
            assert total >= Fraction(limit)


def cancelling():
    """Computes (x - 1) - x, which at 10^16 a float cannot hold."""
    return Network((
        Node("input", (), (2,)),
        dense(0, np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([-1.0, 0.0])),
        Node("relu", (1,), (2,)),
        dense(2, np.array([[1.0, -1.0]]), np.zeros(1)),
    ))  # fmt: skip


def test_rounding_alone_would_break_a_limit_and_its_error_term_keeps_it():
    network, point = cancelling(), np.array([1e16, 1e16])
    exact = exactly(network, point)[-1][0]
    naive = values_of_cases(network, point[None])[-1][0, 0]
    assert exact == -1
    assert Fraction(naive) > exact
    inputs = InputSet(point, point)
    base = derive(network, inputs)
    column, row = np.array([[0]]), np.ones((1, 1))
    found = limits(network, inputs, base, Leaf(0, np.arange(1)), column, row)
    plain = check(network, Proof(inputs, Claims(column, row, np.array([-np.inf]))))
    assert -200 < found[0] <= -1
    assert plain[0] <= -1


@pytest.mark.parametrize("accounted", [True, False])
def test_a_coefficient_that_rounds_on_its_way_back_breaks_a_limit_unless_paid_for(
    accounted, monkeypatch
):
    # The products of both layers cancel but for 1, which rounded coefficients cannot hold.
    one, two = np.array([[1e8 + 1, 1.0], [1e8, 1.0]]), np.array([[1e8, -(1e8 + 1)]])
    network = Network((
        Node("input", (), (2,)), dense(0, one, np.zeros(2)), dense(1, two, np.zeros(1)),
    ))  # fmt: skip
    point = np.array([2.0**20 + 1 / 3, 0.0])
    exact = exactly(network, point)[-1][0]
    inputs, claims = InputSet(point, point), Claims(
        np.zeros((2, 1), np.int64), np.array([[1 / 3], [-1 / 3]]), np.full(2, -np.inf)
    )  # fmt: skip
    if not accounted:
        for module in ("rounding", "intervals", "linear"):
            monkeypatch.setattr(f"robustbench_med.proofs.{module}.rounding", lambda terms: 0.0)
            monkeypatch.setattr("robustbench_med.proofs.linear.EPSILON", 0.0)
    found = check(network, Proof(inputs, claims))
    truth = [Fraction(value) * exact for value in (1 / 3, -1 / 3)]
    holds = all(Fraction(limit) <= value for limit, value in zip(found, truth, strict=True))
    assert holds == accounted


def test_an_affine_network_over_a_ball_cut_with_a_box_has_the_better_of_both():
    weight, centre = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([0.5, 0.5])
    network = Network((Node("input", (), (2,)), dense(0, weight, np.zeros(2))))
    columns, rows = np.array([[0], [1]]), np.ones((2, 1))
    reach = np.array([0.1, 0.5])
    inputs = InputSet(centre - reach, centre + reach, centre, 0.2)
    base = derive(network, inputs)
    found = limits(network, inputs, base, Leaf(0, np.arange(2)), columns, rows)
    assert found == pytest.approx([3.5 - 0.2 * 5, 0.5 - 0.1], abs=1e-9)
    still = InputSet(np.array([0.5, 0.3]), np.array([0.5, 0.7]), centre, 0.15)
    found = limits(network, still, base, Leaf(0, np.arange(2)), columns, rows)
    assert found == pytest.approx([3.5 - 0.15 * 4, 0.5], abs=1e-9)


def test_rows_in_small_parts_have_the_same_limits():
    network, inputs = skipping(2), around([0.3, -0.2], 0.5)
    whole, parts = derive(network, inputs), derive(network, inputs, budget=1)
    for relu in network.relus:
        assert np.allclose(whole.lower[relu], parts.lower[relu], atol=1e-12)
        assert np.allclose(whole.upper[relu], parts.upper[relu], atol=1e-12)


def test_numbers_that_overflow_give_no_limit():
    huge = np.array([[1e200, 1e200]])
    network = Network((
        Node("input", (), (2,)), dense(0, huge, np.zeros(1)), dense(1, huge[:, :1], np.zeros(1)),
    ))  # fmt: skip
    inputs = InputSet(np.ones(2), np.ones(2))
    found = check(
        network, Proof(inputs, Claims(np.array([[0]]), np.ones((1, 1)), np.array([-np.inf])))
    )
    assert found[0] == -np.inf
