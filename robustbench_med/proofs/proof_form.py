"""Whether a proof has the form it must have: shapes, ranges and finite numbers, nothing derived."""

from collections.abc import Mapping, Sequence

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import Base, Claims, Cut, InputSet, Leaf


def check_set(network: Network, inputs: InputSet) -> None:
    """Check an input set.

    Raises:
        IntegrityError: If a corner or the ball does not fit the network's input.
    """
    shape = network.nodes[0].shape
    _numbers("the set's low corner", inputs.low, shape)
    _numbers("the set's high corner", inputs.high, shape)
    _nowhere("the set's low corner lies above its high corner", inputs.low > inputs.high)
    if np.isnan(inputs.radius) or inputs.radius < 0:
        raise IntegrityError(f"the set's radius must be at least 0, got {inputs.radius}")
    if inputs.centre is not None:
        _numbers("the set's centre", inputs.centre, shape)
        outside = (inputs.centre < inputs.low) | (inputs.centre > inputs.high)
        _nowhere("the set's centre lies outside its corners", outside)


def check_claims(network: Network, claims: Claims) -> None:
    """Check claims.

    Raises:
        IntegrityError: If they name no outputs of the network, or NaN.
    """
    outputs, columns = size(network.nodes[-1].shape), claims.columns
    if columns.ndim != 2 or columns.shape[1] < 1 or columns.dtype != np.int64:
        raise IntegrityError(
            f"the claims' columns must be (r, t) int64, t at least 1, "
            f"got {columns.shape} {columns.dtype}"
        )
    _numbers("the claims' values", claims.values, columns.shape)
    if claims.limits.shape != columns.shape[:1] or claims.limits.dtype != np.float64:
        raise IntegrityError(
            f"the claims' limits must be {columns.shape[:1]}, got {claims.limits.shape}"
        )
    _nowhere("the claims' limits are NaN", np.isnan(claims.limits))
    beyond = (columns < 0) | (columns >= outputs)
    _nowhere(f"the claims' columns are none of the {outputs} outputs", beyond)
    ordered = np.sort(columns, axis=1)
    _nowhere("the claims' columns repeat within a row", ordered[:, 1:] == ordered[:, :-1])


def check_base(position: int, base: Base, network: Network) -> None:
    """Check a base.

    Args:
        position: Of the base, for messages.
        base: The base.
        network: The network.

    Raises:
        IntegrityError: If its limits or slopes do not fit the network's ReLUs.
    """
    for name in ("lower", "upper", "slopes"):
        arrays: Mapping[int, Floats] = getattr(base, name)
        if set(arrays) != set(network.relus):
            raise IntegrityError(
                f"base {position} must have {name} of the ReLUs {network.relus}, "
                f"has {sorted(arrays)}"
            )
        for relu, array in arrays.items():
            _numbers(f"base {position}'s {name} of ReLU {relu}", array, network.nodes[relu].shape)
    for relu in network.relus:
        _nowhere(
            f"base {position}'s lower limits of ReLU {relu} lie above its upper ones",
            base.lower[relu] > base.upper[relu],
        )
        _slopes(f"base {position}'s slopes of ReLU {relu}", base.slopes[relu])


def check_leaf(position: int, leaf: Leaf, network: Network, bases: int, claims: int) -> None:
    """Check a leaf.

    Args:
        position: Of the leaf, for messages.
        leaf: The leaf.
        network: The network.
        bases: How many there are.
        claims: The same.

    Raises:
        IntegrityError: If it names what is not there, or its numbers are out of range.
    """
    name = f"leaf {position}"
    if not 0 <= leaf.base < bases:
        raise IntegrityError(f"{name} stands on base {leaf.base} of {bases}")
    rows = leaf.rows
    if rows.ndim != 1 or rows.dtype != np.int64:
        raise IntegrityError(f"{name}'s rows must be (n,) int64, got {rows.shape} {rows.dtype}")
    _nowhere(f"{name} names none of the {claims} claims", (rows < 0) | (rows >= claims))
    if len(np.unique(rows)) < len(rows):
        raise IntegrityError(f"{name} names a claim twice")
    for cut in leaf.cuts:
        _relu_cut(name, cut, network)
    for relu, slopes in leaf.slopes.items():
        if relu not in network.relus:
            raise IntegrityError(f"{name} has slopes of node {relu}, which is no ReLU")
        _numbers(f"{name}'s slopes of ReLU {relu}", slopes, (len(rows), *network.nodes[relu].shape))
        _slopes(f"{name}'s slopes of ReLU {relu}", slopes)
    if leaf.multipliers is not None:
        _numbers(f"{name}'s multipliers", leaf.multipliers, (len(rows), len(leaf.cuts)))
        _nowhere(f"{name}'s multipliers must be at least 0", leaf.multipliers < 0, leaf.multipliers)


def check_sides(name: str, cuts: Sequence[Cut]) -> None:
    """Check that cuts have a side and a finite place.

    Raises:
        IntegrityError: If one has not.
    """
    for cut in cuts:
        if cut.side not in ("low", "high") or not np.isfinite(cut.at):
            raise IntegrityError(f"{name} has a cut with side {cut.side!r} at {cut.at}")


def _relu_cut(name: str, cut: Cut, network: Network) -> None:
    if cut.node not in network.relus or not 0 <= cut.element < size(network.nodes[cut.node].shape):
        raise IntegrityError(
            f"{name} cuts element {cut.element} of node {cut.node}, which is no ReLU's"
        )
    if cut.at != 0:
        raise IntegrityError(f"{name} must cut ReLU {cut.node} at 0, got {cut.at}")


def _numbers(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.float64:
        raise IntegrityError(f"{name} must be {shape} float64, got {array.shape} {array.dtype}")
    _nowhere(f"{name} must be finite", ~np.isfinite(array), array)


def _slopes(name: str, slopes: Floats) -> None:
    _nowhere(f"{name} must be 0 to 1", (slopes < 0) | (slopes > 1), slopes)


def _nowhere(problem: str, wrong: np.ndarray, values: Floats | None = None) -> None:
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        got = "" if values is None else f": {values[at]}"
        raise IntegrityError(f"{problem}, at {at}{got}")
