"""Coefficients go back through every affine node by the transpose of what it computes."""

import numpy as np
import pytest

from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.intervals import fan_in
from robustbench_med.proofs.network import Node, size
from robustbench_med.proofs.transposes import fan_out, shift, transposed


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def window(stride, padding, dilation, groups=1, **more):
    return {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": (groups,), **more
    }  # fmt: skip


def conv(out, weight, *settings):
    arrays = {"weight": numbers(*weight), "bias": numbers(out[0])}
    return Node("conv", (0,), out, arrays, window(*settings))


def up(out, weight, output_padding, *settings):
    arrays = {"weight": numbers(*weight), "bias": numbers(out[0])}
    return Node(
        "conv_transpose", (0,), out, arrays, window(*settings, output_padding=output_padding)
    )


CASES = {
    "conv": (conv((3, 5, 4), (3, 2, 3, 3), (1, 1), (1, 1), (1, 1)), [(2, 5, 4)]),
    "strided": (conv((4, 3, 2), (4, 1, 3, 2), (2, 3), (1, 0), (1, 2), 2), [(2, 5, 6)]),
    "depth": (conv((2, 3, 2, 2), (2, 2, 2, 3, 1), (1, 2, 2), (0, 1, 0), (1, 1, 1)), [(2, 4, 4, 3)]),
    "line": (conv((2, 4), (2, 3, 2), (2,), (0,), (2,)), [(3, 10)]),
    "up": (up((3, 8, 6), (2, 3, 2, 2), (0, 0), (2, 2), (0, 0), (1, 1)), [(2, 4, 3)]),
    "up, grouped": (up((4, 8, 8), (2, 2, 3, 3), (1, 0), (2, 3), (1, 1), (1, 1), 2), [(2, 4, 3)]),
    "dense": (Node("dense", (0,), (4,), {"weight": numbers(4, 6), "bias": numbers(4)}), [(6,)]),
    "along": (
        Node("along", (0,), (2, 5, 3), {"weight": numbers(5, 4)}, {"axis": (1,)}), [(2, 4, 3)]
    ),
    "scale": (
        Node("scale", (0,), (2, 3, 4), {"factor": numbers(2, 1, 1), "shift": numbers(3, 1)}),
        [(2, 3, 4)],
    ),
    "sum": (Node("sum", (0, 1, 0), (2, 3)), [(2, 3)] * 3),
    "concat": (Node("concat", (0, 1), (2, 7, 2), {}, {"axis": (1,)}), [(2, 3, 2), (2, 4, 2)]),
    "reshape": (Node("reshape", (0,), (6, 4)), [(2, 3, 4)]),
    "permute": (Node("permute", (0,), (4, 2, 3), {}, {"axes": (2, 0, 1)}), [(2, 3, 4)]),
    "take": (
        Node("take", (0,), (2, 5, 3), {"index": np.array([3, 0, 0, 2, 0])}, {"axis": (1,)}),
        [(2, 4, 3)],
    ),
    "take once": (
        Node("take", (0,), (2, 3), {"index": np.array([3, 0, 1])}, {"axis": (1,)}), [(2, 4)]
    ),
    "pad": (Node("pad", (0,), (4, 5), {}, {"before": (1, 0), "after": (1, 2)}), [(2, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_applied_to_the_value_are_their_transposes_applied_to_the_inputs(name):
    node, shapes = CASES[name]
    inputs = [numbers(1, *shape, seed=i) for i, shape in enumerate(shapes)]
    rows = numbers(3, *node.shape, seed=9)
    value = forward(node, inputs)[0].ravel()
    back = transposed(node, rows, shapes)
    assert [each.shape for each in back] == [(3, *shape) for shape in shapes]
    added = shift(node)
    found = rows.reshape(3, -1) @ (np.zeros(value.size) if added is None else added)
    for part, x in zip(back, inputs, strict=True):
        found = found + part.reshape(3, -1) @ x.ravel()
    assert np.allclose(found, rows.reshape(3, -1) @ value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_no_sum_has_more_terms_than_are_counted(name):
    node, shapes = CASES[name]
    if len(shapes) > 1:
        assert fan_out(node) == 0
        return
    unit = np.eye(size(shapes[0])).reshape(-1, *shapes[0])
    offset = forward(node, [np.zeros((1, *shapes[0]))])
    matrix = (forward(node, [unit]) - offset).reshape(len(unit), -1)
    assert (np.abs(matrix) > 1e-12).sum(axis=0).max() + (shift(node) is not None) <= fan_in(node)
    most = (np.abs(matrix) > 1e-12).sum(axis=1).max()
    assert most <= fan_out(node) or (most == 1 and set(np.unique(matrix)) <= {0.0, 1.0})


def test_many_rows_are_worked_on_in_parts_that_fit_the_cache(monkeypatch):
    node, shapes = CASES["strided"]
    rows = numbers(50, *node.shape)
    together = transposed(node, rows, shapes)[0]
    monkeypatch.setattr("robustbench_med.proofs.transposes.CACHE", 2000)
    assert np.allclose(transposed(node, rows, shapes)[0], together, atol=1e-13)


@pytest.mark.parametrize("kind", ["input", "relu"])
def test_what_is_not_affine_has_no_transpose(kind):
    with pytest.raises(ValueError, match="not affine"):
        transposed(Node(kind, (), (2,)), np.ones((1, 2)), [(2,)])
