"""A tiny skip-connected network, its exact minima and its values in rational numbers."""

import itertools
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.network import Network, Node, size
from robustbench_med.proofs.proof import InputSet


def dense(node, weight, bias):
    return Node("dense", (node,), (len(bias),), {"weight": weight, "bias": bias})


def skipping(stream, *, scale=1.0, power=0.0):
    """Two inputs, seven ReLUs, two outputs; the first layer is used three times."""
    drawn = np.random.default_rng(stream)

    def random(*shape):
        return scale * drawn.normal(size=shape) * 10 ** drawn.uniform(-power, power, size=shape)

    return Network((
        Node("input", (), (2,)),
        dense(0, random(3, 2), random(3)),
        Node("relu", (1,), (3,)),
        dense(2, random(3, 3), random(3)),
        Node("sum", (3, 1), (3,)),
        Node("relu", (4,), (3,)),
        Node("concat", (5, 2), (6,), {}, {"axis": (0,)}),
        dense(6, random(1, 6), random(1)),
        Node("relu", (7,), (1,)),
        Node("scale", (5,), (3,), {"factor": random(3), "shift": random(1)}),
        Node("concat", (8, 9), (4,), {}, {"axis": (0,)}),
        dense(10, random(2, 4), random(2)),
    ))  # fmt: skip


def around(centre, radius):
    return InputSet(np.asarray(centre) - radius, np.asarray(centre) + radius)


def exact_minimum(network, inputs, row, cuts=()):
    """One linear programme per activation pattern; each half that is cut by its pattern."""
    count, best = network.nodes[0].shape[0], np.inf
    relus = [(at, i) for at in network.relus for i in range(size(network.nodes[at].shape))]
    fixed = {(cut.node, cut.element): cut.side == "high" for cut in cuts if cut.node}
    for bits in itertools.product((False, True), repeat=len(relus)):
        on = dict(zip(relus, bits, strict=True))
        if any(on[key] != side for key, side in fixed.items()):
            continue
        points = [np.vstack([np.zeros(count), np.eye(count)])]  # an affine map is known by these
        above, limit = [], []
        for at, node in enumerate(network.nodes[1:], start=1):
            given = [points[i] for i in node.inputs]
            if node.kind != "relu":
                points.append(forward(node, given))
                continue
            mask = np.array([on[at, i] for i in range(given[0].shape[1])])
            sign = np.where(mask, -1.0, 1.0)
            above.append((sign * (given[0][1:] - given[0][0])).T)
            limit.append(-sign * given[0][0])
            points.append(mask * given[0])
        slope, offset = (points[-1][1:] - points[-1][0]) @ row, points[-1][0] @ row
        found = linprog(
            slope, np.vstack(above), np.concatenate(limit),
            bounds=np.stack([inputs.low, inputs.high], axis=1), method="highs",
        )  # fmt: skip
        if found.status == 0:
            best = min(best, found.fun + offset)
    return best


def exactly(network, point):
    """Compute a network of dense, scale, sum, concat and ReLU nodes in rational numbers."""
    found = [[Fraction(float(x)) for x in point]]
    for node in network.nodes[1:]:
        given = [found[i] for i in node.inputs]
        arrays = {name: array.astype(object) for name, array in node.arrays.items()}
        match node.kind:
            case "dense":
                rows = [[Fraction(w) for w in row] for row in node.arrays["weight"].tolist()]
                bias = node.arrays["bias"].tolist()
                value = [
                    sum((w * x for w, x in zip(row, given[0], strict=True)), Fraction(b))
                    for row, b in zip(rows, bias, strict=True)
                ]
            case "scale":
                factor, added = (
                    np.broadcast_to(arrays[name], node.shape) for name in ("factor", "shift")
                )
                value = [
                    Fraction(f) * x + Fraction(a)
                    for f, x, a in zip(factor, given[0], added, strict=True)
                ]
            case "sum":
                value = [sum(each) for each in zip(*given, strict=True)]
            case "concat":
                value = list(itertools.chain(*given))
            case "relu":
                value = [max(x, Fraction(0)) for x in given[0]]
        found.append(value)
    return found
