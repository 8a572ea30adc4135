"""Limits of every node's value over a box, by interval arithmetic rounded outwards."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.network import Floats, Node, size
from robustbench_med.proofs.proof import InputSet
from robustbench_med.proofs.rounding import TINY, centred, lowered, rounding

Range = tuple[Floats, Floats]
MONOTONE = ("relu", "reshape", "permute", "take", "pad", "concat")


def interval(node: Node, inputs: Sequence[Range]) -> Range:
    """Bound one node's value by those of its inputs.

    An affine node maps a middle c with a reach d to `W c + b` with reach `|W| d`. Computed, the
    first is wrong by at most g (|W| |c| + |b|) and the second by g |W| d (see `rounding`): so d
    is widened by g (|c| + d), and g |b| added, before `|W|` is applied once.

    Args:
        node: Any but an input.
        inputs: What each of its inputs is at least and at most, of its shape.

    Returns:
        What its value is at least and at most.

    Source: Gowal et al., arXiv:1810.12715, section 3 (interval bound propagation); Rump, Acta
        Numerica 19 (2010), section 9 (middle and radius).
    """
    if node.kind in MONOTONE:
        low, high = (forward(node, [each[side][None] for each in inputs])[0] for side in (0, 1))
        return low, high
    if node.kind == "sum":
        return _summed(inputs)
    middle, reach = centred(*inputs[0])
    error = rounding(fan_in(node))
    wide = reach + error * (np.abs(middle) + reach)
    value = forward(node, [middle[None]])[0]
    width = forward(magnitude(node, error), [wide[None]])[0] + TINY
    return lowered(value - width), -lowered(-value - width)


def magnitude(node: Node, bias: float = 1.0) -> Node:
    """Take the absolute values of an affine node's arrays, those it adds times `bias`."""
    added = {"bias": bias, "shift": bias}
    arrays = {
        name: array if name == "index" else np.abs(array) * added.get(name, 1.0)
        for name, array in node.arrays.items()
    }
    return replace(node, arrays=arrays)


def fan_in(node: Node) -> int:
    """Count at most how many products one element of an affine node's value sums up."""
    if node.kind in ("conv", "conv_transpose"):
        weight = node.arrays["weight"].shape
        return (
            int((weight[0] if node.kind == "conv_transpose" else weight[1]) * size(weight[2:])) + 1
        )
    if node.kind in ("dense", "along"):
        return int(node.arrays["weight"].shape[1]) + 1
    return max(2, len(node.inputs))


def box(inputs: InputSet) -> Range:
    """Find the smallest box around a set that its corners and its ball give, rounded outwards."""
    low, high = inputs.low, inputs.high
    if inputs.centre is None or not np.isfinite(inputs.radius):
        return low, high
    below = np.maximum(low, np.nextafter(inputs.centre - inputs.radius, -np.inf))
    above = np.minimum(high, np.nextafter(inputs.centre + inputs.radius, np.inf))
    # Nothing lies in both where they cross, and any limits hold of nothing.
    apart = below > above
    return np.where(apart, low, below), np.where(apart, high, above)


def _summed(inputs: Sequence[Range]) -> Range:
    low, high = inputs[0]
    for less, more in inputs[1:]:
        low = np.nextafter(low + less, -np.inf)
        high = np.nextafter(high + more, np.inf)
    return low, high
