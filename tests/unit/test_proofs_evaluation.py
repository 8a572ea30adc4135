"""What NumPy computes of a node is what torch does."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from robustbench_med.proofs.evaluation import forward, values
from robustbench_med.proofs.network import Network, Node

CONV = (F.conv1d, F.conv2d, F.conv3d)
BACK = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_convolutions_are_torchs(axes, kind):
    stream = np.random.default_rng(axes)
    for groups in (1, 2, 1, 2, 2, 1):

        def many(low, high):
            return tuple(int(n) for n in stream.integers(low, high + 1, axes))

        x = stream.normal(size=(2, 4, *many(5, 7)))
        stride, padding, dilation, kernel = many(1, 3), many(0, 2), many(1, 2), many(1, 3)
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": (groups,)}
        inner = (6, 4 // groups) if kind == "conv" else (4, 6 // groups)
        arrays = {"weight": stream.normal(size=(*inner, *kernel)), "bias": stream.normal(size=6)}
        given = [torch.from_numpy(each) for each in (x, arrays["weight"], arrays["bias"])]
        if kind == "conv":
            expected = CONV[axes - 1](*given, stride, padding, dilation, groups)
        else:
            most = [max(pair) - 1 for pair in zip(stride, dilation, strict=True)]
            more = tuple(int(stream.integers(0, n + 1)) for n in most)
            settings["output_padding"] = more
            expected = BACK[axes - 1](*given, stride, padding, more, groups, dilation)
        node = Node(kind, (0,), tuple(expected.shape[1:]), arrays, settings)
        found = forward(node, [x])
        assert found.shape == tuple(expected.shape)
        assert np.allclose(found, expected.numpy(), rtol=1e-12, atol=1e-12)


def test_the_other_kinds_are_what_the_table_says():
    x, y = np.arange(24.0).reshape(2, 3, 4) - 9, np.ones((2, 3, 4))
    matrix = np.arange(6.0).reshape(2, 3)
    flat = np.arange(24.0).reshape(2, 12)
    dense = {"weight": np.arange(24.0).reshape(2, 12), "bias": np.array([1.0, -1.0])}
    scaling = {"factor": np.array([[2.0], [3.0], [4.0]]), "shift": np.array(0.5)}
    cases = [
        (Node("dense", (0,), (2,), dense), [flat], flat @ dense["weight"].T + dense["bias"]),
        (Node("along", (0,), (2, 4), {"weight": matrix}, {"axis": (0,)}), [x], matrix @ x),
        (Node("scale", (0,), (3, 4), scaling), [x], scaling["factor"] * x + 0.5),
        (Node("sum", (0, 1, 0), (3, 4)), [x, y, x], 2 * x + y),
        (Node("concat", (0, 1), (3, 8), {}, {"axis": (1,)}), [x, y], np.concatenate([x, y], 2)),
        (Node("reshape", (0,), (12,)), [x], x.reshape(2, 12)),
        (Node("permute", (0,), (4, 3), {}, {"axes": (1, 0)}), [x], x.transpose(0, 2, 1)),
        (Node("take", (0,), (3, 3), {"index": np.array([3, 0, 0])}, {"axis": (1,)}), [x],
         x[:, :, [3, 0, 0]]),
        (Node("pad", (0,), (4, 6), {}, {"before": (1, 0), "after": (0, 2)}), [x],
         np.pad(x, ((0, 0), (1, 0), (0, 2)))),
        (Node("relu", (0,), (3, 4)), [x], x * (x > 0)),
    ]  # fmt: skip
    for node, inputs, expected in cases:
        found = forward(node, inputs)
        assert found.shape == (2, *node.shape), node.kind
        assert np.array_equal(found, expected), node.kind


def test_a_network_gives_the_value_of_every_node():
    nodes = (Node("input", (), (3,)), Node("relu", (0,), (3,)), Node("sum", (0, 1), (3,)))
    found = values(Network(nodes), np.array([-1.0, 0.0, 2.0]))
    assert [each.tolist() for each in found] == [[-1, 0, 2], [0, 0, 2], [-1, 0, 4]]
