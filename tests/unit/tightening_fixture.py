"""What the tests of tightening share: networks written out by hand, the truth of tiny ones."""

import itertools

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from robustbench_med.proofs.network import Network, Node


def dense_network(seed, *sizes, gain=1.5):
    """A random network of dense layers with ReLUs between."""
    rng = np.random.default_rng(seed)
    nodes = [Node("input", (), (sizes[0],))]
    for before, after in itertools.pairwise(sizes):
        weight = rng.normal(size=(after, before)) * gain / np.sqrt(before)
        arrays = {"weight": weight, "bias": rng.normal(size=after) * 0.3}
        nodes.append(Node("dense", (len(nodes) - 1,), (after,), arrays))
        nodes.append(Node("relu", (len(nodes) - 1,), (after,)))
    return Network(tuple(nodes[:-1]))


def conv_settings(axes=2, stride=1, padding=1, dilation=1, groups=1):
    return {
        "stride": (stride,) * axes,
        "padding": (padding,) * axes,
        "dilation": (dilation,) * axes,
        "groups": (groups,),
    }


def written(layers, shape):
    """Write a chain of torch layers out: Conv2d, Linear, Flatten and ReLU."""
    nodes, image = [Node("input", (), tuple(shape))], torch.zeros(1, *shape)
    for layer in layers:
        image = layer.float()(image)
        source, out, arrays, settings = (len(nodes) - 1,), tuple(image.shape[1:]), {}, {}
        kind = {nn.ReLU: "relu", nn.Flatten: "reshape", nn.Linear: "dense"}.get(type(layer), "conv")
        if kind in ("conv", "dense"):
            arrays = {
                name: getattr(layer, name).double().numpy(force=True) for name in ("weight", "bias")
            }
        if kind == "conv":
            settings = conv_settings(2, layer.stride[0], layer.padding[0])
        nodes.append(Node(kind, source, out, arrays, settings))
    return Network(tuple(nodes))


def mixed_network(seed=0):
    """One node of every kind, two of some, on an input of (2, 5, 6)."""
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.normal(size=shape) * 0.5

    up = {**conv_settings(stride=2, padding=1, dilation=2), "output_padding": (1, 0)}
    nodes = (
        Node("input", (), (2, 5, 6)),
        Node("conv", (0,), (4, 3, 3), {"weight": random(4, 1, 3, 3), "bias": random(4)},
             conv_settings(stride=2, groups=2)),
        Node("relu", (1,), (4, 3, 3)),
        Node("conv_transpose", (2,), (2, 8, 7), {"weight": random(4, 2, 3, 3), "bias": random(2)},
             up),
        Node("scale", (3,), (2, 8, 7), {"factor": random(2, 1, 1), "shift": random(1, 8, 7)}),
        Node("take", (4,), (2, 5, 7), {"index": np.array([0, 3, 3, 6, 1])}, {"axis": (1,)}),
        Node("pad", (0,), (2, 5, 7), {}, {"before": (0, 0, 1), "after": (0, 0, 0)}),
        Node("sum", (5, 6, 5), (2, 5, 7)),
        Node("relu", (7,), (2, 5, 7)),
        Node("along", (8,), (2, 3, 7), {"weight": random(3, 5)}, {"axis": (1,)}),
        Node("permute", (9,), (7, 2, 3), {}, {"axes": (2, 0, 1)}),
        Node("concat", (10, 10), (14, 2, 3), {}, {"axis": (0,)}),
        Node("reshape", (11,), (84,)),
        Node("dense", (12,), (6,), {"weight": random(6, 84), "bias": random(6)}),
        Node("relu", (13,), (6,)),
        Node("dense", (14,), (3,), {"weight": random(3, 6), "bias": random(3)}),
    )  # fmt: skip
    return Network(nodes)


def pieces(network, low, high, cuts=()):
    """The linear pieces of a dense network over a box, on one side of each cut.

    Yields `matrix, limit, slope, offset`: where `matrix @ x <= limit`, outputs are
    `slope @ x + offset`.
    """
    layers = [(n.arrays["weight"], n.arrays["bias"]) for n in network.nodes if n.kind == "dense"]
    fixed = {(cut.node, cut.element): cut.side == "high" for cut in cuts}
    places = [(at, i) for at in network.relus for i in range(network.nodes[at].shape[0])]
    options = [(fixed[place],) if place in fixed else (False, True) for place in places]
    widths = np.cumsum([len(bias) for _, bias in layers[:-1]], dtype=int)[:-1]
    for bits in itertools.product(*options):
        slope, offset = np.eye(low.size), np.zeros(low.size)
        above, limit = [], []
        patterns = np.split(np.array(bits, float), widths)
        for (weight, bias), on in zip(layers, [*patterns[: len(layers) - 1], None], strict=True):
            slope, offset = weight @ slope, weight @ offset + bias
            if on is None:
                break
            sign = 1 - 2 * on
            above.append(sign[:, None] * slope)
            limit.append(-sign * offset)
            slope, offset = on[:, None] * slope, on * offset
        yield (
            np.concatenate([np.zeros((0, low.size)), *above]),
            np.concatenate([[], *limit]),
            slope,
            offset,
        )


def exact_minimum(network, low, high, row, cuts=()):
    """Smallest value of a row of a dense network over a box: one linear programme a piece."""
    best, bounds = np.inf, np.stack([low, high], axis=1)
    for matrix, limit, slope, offset in pieces(network, low, high, cuts):
        found = linprog(
            row @ slope, matrix if len(matrix) else None, limit if len(limit) else None,
            bounds=bounds, method="highs",
        )  # fmt: skip
        if found.status == 0:
            best = min(best, found.fun + row @ offset)
    return best
