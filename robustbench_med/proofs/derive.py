"""Limits of what a network's ReLUs see and of claims, derived rigorously in float64."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.proofs.evaluation import values as values_of
from robustbench_med.proofs.halves import in_halves
from robustbench_med.proofs.intervals import Range
from robustbench_med.proofs.linear import CHUNK, Ground, lowest
from robustbench_med.proofs.network import Floats, Network
from robustbench_med.proofs.patches import Patch, at, by_tile, together
from robustbench_med.proofs.proof import Base, Cut, Indices, InputSet, Leaf
from robustbench_med.proofs.relaxation import Lines, lines, steepest
from robustbench_med.proofs.sets import halved

Hidden = Literal["linear", "intervals"]
MARGIN = 1e-9


def derive(
    network: Network,
    inputs: InputSet,
    cuts: Sequence[Cut] = (),
    *,
    slopes: Mapping[int, Floats] | None = None,
    hidden: Hidden = "linear",
    budget: int = CHUNK,
) -> Base:
    """Bound the input of every ReLU over a set.

    Args:
        network: The network.
        inputs: The whole set.
        cuts: Of the input; kept in the base.
        slopes: Of each ReLU; left out, 0 or 1, whichever leaves less room below the ReLU.
        hidden: "linear": open signs are bounded by going back to the input (CROWN); "intervals":
            by intervals alone (CROWN-IBP).
        budget: Bytes that one array of coefficients may take.

    Returns:
        A base; its limits a little wider than derived, so that they are derived again where sums
        are rounded otherwise.
    """
    lower: dict[int, Floats] = {}
    upper: dict[int, Floats] = {}
    chosen: dict[int, Floats] = {}
    ground = Ground(network, halved(inputs, cuts), budget=budget)
    middle = values_of(network, ground.inputs.low / 2 + ground.inputs.high / 2)
    with np.errstate(over="ignore", invalid="ignore"):
        for position, node in enumerate(network.nodes):
            if node.kind == "relu":
                source = node.inputs[0]
                found = ground.ranges[source]
                if hidden == "linear":
                    found = _settled(ground, source, middle[source] > 0)
                low, high = _rounded(found)
                slope = steepest(low, high) if slopes is None else slopes[position]
                lower[position], upper[position], chosen[position] = low, high, slope
                settle(ground, position, (low, high), slope)
            ground.add()
    return Base(tuple(cuts), lower, upper, chosen)


def settle(ground: Ground, position: int, limits: Range, slopes: Floats) -> None:
    """Take the limits of the next ReLU's input for known."""
    source = ground.network.nodes[position].inputs[0]
    low, high = ground.ranges[source]
    ground.ranges[source] = np.maximum(low, limits[0]), np.minimum(high, limits[1])
    ground.lines[position] = lines(*limits, slopes)


def _settled(ground: Ground, node: int, rising: NDArray[np.bool_]) -> Range:
    """Bound what intervals leave open: on the side where its sign may be settled, then on both."""
    low, high = ground.ranges[node]
    nothing = np.zeros(low.shape)
    opened = (low < 0) & (high > 0)
    enough = nothing, nothing
    low, high = sharpened(ground, node, (opened & rising, opened & ~rising), enough)
    opened &= (low < 0) & (high > 0)
    other = sharpened(ground, node, (opened & ~rising, opened & rising))
    return np.maximum(low, other[0]), np.minimum(high, other[1])


def sharpened(
    ground: Ground,
    node: int,
    which: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    enough: Range | None = None,
) -> Range:
    """Bound some elements of a node's value by going back to the input, the others by intervals.

    Args:
        ground: Up to this node.
        node: Its position.
        which: Elements to bound from below, and those from above, of its shape.
        enough: Of its shape: limits beyond these need not be closer.

    Returns:
        What its value is at least and at most.
    """
    low, high = (limit.copy() for limit in ground.ranges[node])
    for side, (limit, sign) in enumerate(((low, 1.0), (high, -1.0))):
        elements, step = np.flatnonzero(which[side]), ground.rows_at_once
        ends = None if enough is None else sign * enough[side]

        def work(some: Indices, sign: float = sign, ends: Floats | None = ends) -> Floats:
            rows = at(some[:, None], np.full((len(some), 1), sign), low.shape)
            far = None if ends is None else ends.flat[some]
            return lowest(ground, {node: rows}, ground.lines, far)

        better = np.fmax if sign > 0 else np.fmin
        for part in by_tile(elements[:, None], low.shape, step):
            some = elements[part]
            limit.flat[some] = better(limit.flat[some], sign * in_halves(work, some))
    return low, high


def standing(network: Network, inputs: InputSet, base: Base) -> Ground:
    """Take a base's limits for known: all of its network's values, bounded with them.

    Args:
        network: The network.
        inputs: The whole set.
        base: Whose limits hold.
    """
    ground = Ground(network, halved(inputs, base.cuts))
    with np.errstate(over="ignore", invalid="ignore"):
        for position, node in enumerate(network.nodes):
            if node.kind == "relu":
                limits = base.lower[position], base.upper[position]
                settle(ground, position, limits, base.slopes[position])
            ground.add()
    return ground


def limits(
    network: Network, inputs: InputSet, base: Base, leaf: Leaf, columns: Indices, values: Floats
) -> Floats:
    """Bound a leaf's rows from below, taking its base's limits for known.

    Args:
        network: The network.
        inputs: The whole set.
        base: The leaf's.
        leaf: Its slopes and multipliers are those of these rows; which claims they are is not read.
        columns: `(n, t)`, of the flat output.
        values: `(n, t)`.

    Returns:
        `(n,)`.
    """
    ground = standing(network, inputs, base)
    return on_leaf(ground, base, leaf, columns, values)


def on_leaf(
    ground: Ground,
    base: Base,
    leaf: Leaf | None,
    columns: Indices,
    values: Floats,
    *,
    enough: Floats | None = None,
) -> Floats:
    """Bound rows from below on a leaf; without one by intervals, the last affine nodes with them.

    Args:
        ground: Of all nodes.
        base: The leaf's.
        leaf: None for intervals.
        columns: `(n, t)`, of the flat output.
        values: `(n, t)`.
        enough: `(n,)`: limits above these need not be closer.

    Returns:
        `(n,)`.
    """
    drawn = None if leaf is None else _lines_of(ground, base, leaf)
    step, last = ground.rows_at_once, len(ground.network.nodes) - 1
    shape, found = ground.network.nodes[last].shape, np.zeros(len(columns))

    def work(some: Indices) -> Floats:
        begun = {last: at(columns[some], values[some], shape)}
        if leaf is not None:
            _multiply(ground, begun, leaf, some)
        here = drawn and {node: each.of_rows(some) for node, each in drawn.items()}
        return lowest(ground, begun, here, None if enough is None else enough[some])

    with np.errstate(over="ignore", invalid="ignore"):
        for some in by_tile(columns, shape, step):
            found[some] = in_halves(work, some)
    return found


def _lines_of(ground: Ground, base: Base, leaf: Leaf) -> Mapping[int, Lines]:
    lower, upper = dict(base.lower), dict(base.upper)
    for cut in leaf.cuts:
        ends, inner = (lower, np.fmax) if cut.side == "high" else (upper, np.fmin)
        ends[cut.node] = ends[cut.node].copy()
        ends[cut.node].flat[cut.element] = inner(ends[cut.node].flat[cut.element], 0.0)
    touched = {cut.node for cut in leaf.cuts} | set(leaf.slopes)
    fresh = {
        node: lines(lower[node], upper[node], leaf.slopes.get(node, base.slopes[node]))
        for node in touched
    }
    return {**ground.lines, **fresh}


def _multiply(ground: Ground, rows: dict[int, Patch], leaf: Leaf, part: Indices) -> None:
    # z >= 0 on the high side of a cut, so that subtracting a multiple of z leaves a lower bound.
    if leaf.multipliers is None:
        return
    for cut, factors in zip(leaf.cuts, leaf.multipliers[part].T, strict=True):
        source = ground.network.nodes[cut.node].inputs[0]
        held = -factors if cut.side == "high" else factors
        place = np.full((len(factors), 1), cut.element)
        patch = at(place, held[:, None], ground.network.nodes[source].shape)
        rows[source] = together(rows[source], patch) if source in rows else patch


def _rounded(limits: Range) -> Range:
    low, high = limits
    return low - MARGIN * (1 + np.abs(low)), high + MARGIN * (1 + np.abs(high))
