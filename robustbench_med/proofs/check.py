"""The checker: derives every limit of a proof again, and refuses what does not follow."""

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.cover import covered, paths
from robustbench_med.proofs.derive import on_leaf, settle, sharpened
from robustbench_med.proofs.linear import CHUNK, Ground
from robustbench_med.proofs.network import Floats, Network
from robustbench_med.proofs.network_form import well_formed
from robustbench_med.proofs.proof import Base, Proof
from robustbench_med.proofs.proof_form import (
    check_base,
    check_claims,
    check_leaf,
    check_set,
    check_sides,
)
from robustbench_med.proofs.sets import halved


def check(network: Network, proof: Proof, *, budget: int = CHUNK) -> Floats:
    """Derive the limits of all claims again, in float64 with every rounding accounted for.

    What is returned holds in real arithmetic of the network as it is written out. Whether that is
    the network that somebody runs, and whether the set is the one that matters, is not looked at.

    Args:
        network: What the claims are about.
        proof: The proof.
        budget: Bytes that one array of coefficients may take.

    Returns:
        `(r,)`, each at least the claimed limit.

    Raises:
        IntegrityError: With the first thing that does not follow, and both numbers.
    """
    well_formed(network)
    check_set(network, proof.inputs)
    check_claims(network, proof.claims)
    for position, base in enumerate(proof.bases):
        check_sides(f"base {position}", base.cuts)
        check_base(position, base, network)
    for position, leaf in enumerate(proof.leaves):
        check_sides(f"leaf {position}", leaf.cuts)
        check_leaf(position, leaf, network, len(proof.bases), len(proof.claims.limits))
    named = _covering(proof)
    derived = np.full(len(proof.claims.limits), np.inf)
    for position, base in enumerate(proof.bases):
        ground = Ground(network, halved(proof.inputs, base.cuts), budget=budget)
        verified(ground, base, position)
        _at_most(derived, proof, position, ground)
    rest = np.flatnonzero(~named)
    if len(rest):
        derived[rest] = _by_intervals(network, proof, rest, budget)
    _compare(proof, derived)
    return derived


def verified(ground: Ground, base: Base, position: int) -> None:
    """Derive a base's limits again with its slopes; those that intervals give need no more.

    Args:
        ground: Of the base's part of the set, still without values; filled, with its limits.
        base: The base, of the right form.
        position: Of the base, for messages.

    Raises:
        IntegrityError: If a limit does not follow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for relu, node in enumerate(ground.network.nodes):
            if node.kind == "relu":
                lower, upper = base.lower[relu], base.upper[relu]
                low, high = ground.ranges[node.inputs[0]]
                short = ~(low >= lower), ~(high <= upper)
                low, high = sharpened(ground, node.inputs[0], short, (lower, upper))
                _follows(f"base {position}'s lower limit of ReLU {relu}", lower, low)
                _follows(f"base {position}'s upper limit of ReLU {relu}", -upper, -high)
                settle(ground, relu, (lower, upper), base.slopes[relu])
            ground.add()


def _follows(name: str, stored: Floats, derived: Floats) -> None:
    wrong = ~(derived >= stored)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        sign = -1 if "upper" in name else 1
        raise IntegrityError(
            f"{name}, element {at}, is {sign * stored[at]!s}, but only {sign * derived[at]!s} "
            "can be derived"
        )


def _covering(proof: Proof) -> np.ndarray:
    leaves: list[list[int]] = [[] for _ in proof.claims.limits]
    for position, leaf in enumerate(proof.leaves):
        for row in leaf.rows:
            leaves[row].append(position)
    routes, seen = paths(proof), set()
    for claim, own in enumerate(leaves):
        if own and tuple(own) not in seen:
            covered(claim, [routes[position] for position in own])
            seen.add(tuple(own))
    return np.array([bool(own) for own in leaves], dtype=np.bool_)


def _at_most(derived: Floats, proof: Proof, position: int, ground: Ground) -> None:
    base, claims = proof.bases[position], proof.claims
    for leaf in proof.leaves:
        if leaf.base == position:
            columns, values = claims.columns[leaf.rows], claims.values[leaf.rows]
            enough = claims.limits[leaf.rows]
            found = on_leaf(ground, base, leaf, columns, values, enough=enough)
            derived[leaf.rows] = np.minimum(derived[leaf.rows], found)


def _by_intervals(network: Network, proof: Proof, rows: np.ndarray, budget: int) -> Floats:
    ground = Ground(network, proof.inputs, budget=budget)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in network.nodes:
            ground.add()
    columns, values = proof.claims.columns[rows], proof.claims.values[rows]
    return on_leaf(ground, Base((), {}, {}, {}), None, columns, values)


def _compare(proof: Proof, derived: Floats) -> None:
    wrong = np.flatnonzero(~(derived >= proof.claims.limits))
    if len(wrong):
        first = int(wrong[0])
        raise IntegrityError(
            f"claim {first} says at least {proof.claims.limits[first]!s}, but only "
            f"{derived[first]!s} can be derived"
        )
