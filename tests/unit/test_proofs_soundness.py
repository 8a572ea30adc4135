"""Whatever a proof holds, what the checker derives from it is never above what a point attains."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import Claims, Cut, InputSet, Leaf, Proof

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("proofs_fixture.py"))))
ROWS = np.array([[1.0, 0.0], [0.0, -1.0], [1.0, -1.0]])
NOTHING = Claims(np.tile([0, 1], (3, 1)), ROWS, np.full(3, -np.inf))
GRID = np.stack(np.meshgrid(*[np.linspace(0, 1, 41)] * 2), axis=-1).reshape(-1, 2)
CENTRE = np.array([0.3, -0.2])


def proof_of(network, stream):
    """A valid proof with input cuts, ReLU cuts, slopes and multipliers at random."""
    ball = {"centre": CENTRE, "radius": float(stream.uniform(0.2, 0.8))}
    inputs = InputSet(CENTRE - 0.5, CENTRE + 0.5, **(ball if stream.random() < 0.5 else {}))
    middle, bases, leaves = float(stream.uniform(-0.1, 0.2)), [], []
    for side in ("low", "high") if stream.random() < 0.7 else (None,):
        slopes = {at: stream.random(network.nodes[at].shape) for at in network.relus}
        cuts = () if side is None else (Cut(0, 1, side, middle - 0.3),)
        own = None if stream.random() < 0.5 else slopes
        bases.append(derive(network, inputs, cuts, slopes=own))
        for path in tree(stream, 2):
            weights = stream.exponential(size=(3, len(path))) * stream.choice([0, 0.1, 1, 10])
            leaves.append(Leaf(len(bases) - 1, np.arange(3), path, {}, weights))
    return Proof(inputs, NOTHING, tuple(bases), tuple(leaves))


def tree(stream, depth):
    if depth == 0 or stream.random() < 0.2:
        return [()]
    node = int(stream.choice([2, 5, 8]))
    element = int(stream.integers(1 if node == 8 else 3))
    return [
        (Cut(node, element, side), *rest)
        for side in ("low", "high")
        for rest in tree(stream, depth - 1)
    ]


def altered(items, stream, change):
    """Change one of several at random."""
    at = int(stream.integers(len(items)))
    return (*items[:at], change(items[at]), *items[at + 1 :])


def other_base(network, proof, stream, size):
    kind, relu = str(stream.choice(["lower", "upper", "slopes"])), int(stream.choice([2, 5, 8]))

    def change(base):
        old = getattr(base, kind)
        moved = old[relu] + size * stream.normal(size=old[relu].shape)
        return replace(base, **{kind: {**old, relu: moved}})

    return network, replace(proof, bases=altered(proof.bases, stream, change))


def other_base_cut(network, proof, stream, size):
    def change(base):
        return replace(base, cuts=tuple(replace(cut, at=cut.at + size) for cut in base.cuts))

    return network, replace(proof, bases=altered(proof.bases, stream, change))


def other_weights(network, proof, stream, size):
    nodes, at = list(network.nodes), int(stream.choice([1, 3, 7, 11]))
    weight = nodes[at].arrays["weight"]
    moved = weight + size * stream.normal(size=weight.shape)
    nodes[at] = replace(nodes[at], arrays={**nodes[at].arrays, "weight": moved})
    return Network(tuple(nodes)), proof


def other_set(network, proof, stream, size):
    corner = str(stream.choice(["low", "high"]))
    moved = getattr(proof.inputs, corner) + size * stream.normal(size=2)
    radius = proof.inputs.radius * stream.choice([1, 1 - size / 2, 1 + size])
    inputs = replace(proof.inputs, radius=radius, **{corner: moved})
    return network, replace(proof, inputs=inputs)


def other_leaf(network, proof, stream, size):
    taken = proof.leaves[int(stream.integers(len(proof.leaves)))]
    return network, replace(proof, leaves=altered(proof.leaves, stream, lambda _: taken))


def other_cut(network, proof, stream, size):
    def change(cut):
        side, element = str(stream.choice(["low", "high"])), int(stream.integers(3))
        return replace(cut, side=side, element=element)

    def change_leaf(leaf):
        return replace(leaf, cuts=leaf.cuts and altered(leaf.cuts, stream, change))

    return network, replace(proof, leaves=altered(proof.leaves, stream, change_leaf))


def other_multipliers(network, proof, stream, size):
    def change(leaf):
        return replace(leaf, multipliers=leaf.multipliers + size * stream.normal())

    return network, replace(proof, leaves=altered(proof.leaves, stream, change))


def other_rows(network, proof, stream, size):
    def change(leaf):
        rows = stream.permutation(4)[:3]
        return replace(leaf, rows=rows)

    return network, replace(proof, leaves=altered(proof.leaves, stream, change))


TAMPERINGS = [
    other_base, other_base_cut, other_weights, other_set, other_leaf, other_cut,
    other_multipliers, other_rows,
]  # fmt: skip


def derived(network, proof):
    """All that can be derived: the checker stops at what is claimed, and nothing is."""
    found = check(network, proof)
    named = np.full(3, np.inf)
    for leaf in proof.leaves:
        base, columns = proof.bases[leaf.base], NOTHING.columns[leaf.rows]
        own = limits(network, proof.inputs, base, leaf, columns, ROWS[leaf.rows])
        named[leaf.rows] = np.minimum(named[leaf.rows], own)
    return np.where(np.isfinite(named), np.maximum(named, found), found)


def attained(network, proof):
    """The smallest value of each claim over a grid of the set."""
    inputs = proof.inputs
    points = inputs.low + GRID * (inputs.high - inputs.low)
    if inputs.centre is not None:
        away = points - inputs.centre
        length = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-300)
        points = inputs.centre + away * np.minimum(1, inputs.radius * (1 - 1e-12) / length)
    return (values_of_cases(network, points)[-1] @ ROWS.T).min(axis=0)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9))
def test_a_valid_proof_of_any_tree_is_accepted_and_holds_at_every_point(seed):
    stream = np.random.default_rng(seed)
    network = MADE.skipping(seed)
    proof = proof_of(network, stream)
    found = derived(network, proof)
    assert (found > -np.inf).all()
    assert (found <= attained(network, proof) + 1e-9).all()


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(TAMPERINGS), st.integers(-12, 0))
def test_a_tampered_proof_is_refused_or_what_is_derived_from_it_holds(seed, tamper, power):
    stream = np.random.default_rng(seed)
    network = MADE.skipping(seed)
    proof = proof_of(network, stream)
    network, proof = tamper(network, proof, stream, 10.0**power)
    try:
        found = derived(network, proof)
    except IntegrityError:
        return
    assert (found <= attained(network, proof) + 1e-9).all()
