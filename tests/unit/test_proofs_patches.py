"""Cropped coefficients are the whole ones, outside of which there are only zeros."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.patches import Patch, all_of, back, together
from robustbench_med.proofs.proof import Cut, InputSet, Leaf
from robustbench_med.proofs.transposes import transposed


def conv(kind, shape, rng, **settings):
    kernel = settings.pop("kernel", (3, 3))
    channels = shape[0]
    weight = rng.normal(size=(5, channels, *kernel) if kind == "conv" else (channels, 5, *kernel))
    made = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": (1,)} | settings
    sides = zip(
        shape[1:], kernel, *(made[n] for n in ("stride", "padding", "dilation")), strict=True
    )
    if kind == "conv":
        out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides]
    else:
        made.setdefault("output_padding", (0, 0))
        out = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in sides]
        out = [n + more for n, more in zip(out, made["output_padding"], strict=True)]
    arrays = {"weight": weight, "bias": rng.normal(size=5)}
    return Node(kind, (0,), (5, *out), arrays, made)


def scale(shape, rng):
    return Node("scale", (0,), shape, {"factor": rng.normal(size=shape), "shift": np.zeros(1)})


TWO = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
MADE = [
    lambda rng: conv("conv", (3, 12, 11), rng),
    lambda rng: conv("conv", (3, 12, 11), rng, stride=(2, 2)),
    lambda rng: conv("conv", (3, 12, 11), rng, stride=(2, 1), dilation=(2, 3), padding=(2, 0)),
    lambda rng: conv("conv", (3, 12, 11), rng, **TWO),
    lambda rng: conv("conv", (3, 12, 11), rng, padding=(4, 1)),
    lambda rng: conv("conv_transpose", (3, 7, 6), rng, **TWO),
    lambda rng: conv("conv_transpose", (3, 7, 6), rng, stride=(2, 2), output_padding=(1, 0)),
    lambda rng: conv("conv_transpose", (3, 7, 6), rng, stride=(3, 1), dilation=(2, 1)),
    lambda rng: conv("conv_transpose", (3, 7, 6), rng, **TWO | {"kernel": (1, 1)}),
    lambda rng: scale((5, 9, 8), rng),
]  # fmt: skip


@pytest.mark.parametrize("made", MADE)
def test_a_patch_goes_back_as_the_whole_value_does(made):
    rng = np.random.default_rng(3)
    node = made(rng)
    shape = (3, 12, 11) if node.kind == "conv" else (3, 7, 6)
    shape = node.shape if node.kind == "scale" else shape
    for _ in range(40):
        origin = tuple(int(rng.integers(n)) for n in node.shape[1:])
        extent = [
            int(rng.integers(1, n - a + 1)) for a, n in zip(origin, node.shape[1:], strict=True)
        ]
        patch = Patch(rng.normal(size=(2, node.shape[0], *extent)), origin)
        expected = transposed(node, patch.whole(node.shape).rows, [shape])[0]
        (found,) = back(node, patch, [shape])
        np.testing.assert_allclose(found.whole(shape).rows, expected, rtol=0, atol=1e-12)
        limits = zip(found.origin, found.extent, shape[1:], strict=True)
        assert all(a >= 0 and n >= 1 and a + n <= whole for a, n, whole in limits)


def test_a_small_patch_stays_small():
    rng = np.random.default_rng(0)
    node = conv("conv", (3, 40, 40), rng)
    (found,) = back(node, Patch(rng.normal(size=(1, 5, 4, 4)), (10, 0)), [(3, 40, 40)])
    assert found.origin == (9, 0)
    assert found.extent == (6, 5)


def test_patches_add_up_wherever_they_lie():
    rng = np.random.default_rng(1)
    for _ in range(30):
        patches = []
        for _ in range(2):
            origin = tuple(int(a) for a in rng.integers(0, 6, size=2))
            extent = [int(rng.integers(1, 8 - a)) for a in origin]
            patches.append(Patch(rng.normal(size=(3, 2, *extent)), origin))
        whole = sum(patch.whole((2, 8, 8)).rows for patch in patches)
        np.testing.assert_array_equal(together(*patches).whole((2, 8, 8)).rows, whole)


def test_branches_and_other_kinds_are_filled_up_where_they_must():
    rng = np.random.default_rng(2)
    patch = Patch(rng.normal(size=(2, 5, 3, 2)), (4, 1))
    one, two = back(Node("sum", (0, 1), (5, 9, 8)), patch, [(5, 9, 8)] * 2)
    assert one.origin == two.origin == (4, 1)
    shapes = [(2, 9, 8), (3, 9, 8)]
    parts = list(back(Node("concat", (0, 1), (5, 9, 8), {}, {"axis": (0,)}), patch, shapes))
    assert [part.rows.shape for part in parts] == [(2, 2, 3, 2), (2, 3, 3, 2)]
    reshape = Node("reshape", (0,), (5, 9, 8))
    (flat,) = back(reshape, patch, [(360,)])
    np.testing.assert_array_equal(flat.rows, patch.whole((5, 9, 8)).rows.reshape(2, -1))
    assert all_of(flat.rows).origin == ()


def test_rows_all_over_an_image_have_the_limits_that_each_has_alone():
    rng = np.random.default_rng(4)
    first = conv("conv", (1, 20, 18), rng)
    last = conv("conv", (5, 20, 18), rng, stride=(2, 2))
    relu = Node("relu", (1,), first.shape)
    network = Network((Node("input", (), (1, 20, 18)), first, relu, replace(last, inputs=(2,))))
    centre = rng.random((1, 20, 18))
    inputs = InputSet(centre - 0.1, centre + 0.1, centre, 1.0)
    base = derive(network, inputs)
    columns = np.stack([rng.permutation(450)[:40], rng.permutation(450)[:40]], axis=1)
    columns[:, 1] += 225 * (columns[:, 0] == columns[:, 1])
    columns %= 450
    values = rng.normal(size=(40, 2))
    cuts = (Cut(2, 700, "low"), Cut(2, 3, "high"))
    slopes, weights = {2: rng.random((40, 5, 20, 18))}, rng.exponential(size=(40, 2))
    leaf = Leaf(0, np.arange(40), cuts, slopes, weights)
    found = limits(network, inputs, base, leaf, columns, values)
    for row in range(40):
        one = slice(row, row + 1)
        alone = Leaf(0, np.arange(1), cuts, {2: slopes[2][one]}, weights[one])
        (expected,) = limits(network, inputs, base, alone, columns[one], values[one])
        assert found[row] == pytest.approx(expected, abs=1e-9)
