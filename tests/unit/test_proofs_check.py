"""The checker derives what valid proofs claim, and refuses every proof that was tampered with."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import Base, Claims, Cut, InputSet, Leaf, Proof
from robustbench_med.proofs.sets import halved


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def conv(node, out, inside, seed=0):
    ones = (1, 1)
    settings = {"stride": ones, "padding": ones, "dilation": ones, "groups": (1,)}
    arrays = {"weight": numbers(out, inside, 3, 3, seed=seed), "bias": numbers(out, seed=seed)}
    return Node("conv", (node,), (out, 4, 4), arrays, settings)


NETWORK = Network((
    Node("input", (), (1, 4, 4)),
    conv(0, 2, 1),
    Node("relu", (1,), (2, 4, 4)),
    conv(2, 2, 2, seed=1),
    Node("relu", (3,), (2, 4, 4)),
    Node("concat", (4, 2), (4, 4, 4), {}, {"axis": (0,)}),
    conv(5, 2, 4, seed=2),
))  # fmt: skip
CENTRE = numbers(1, 4, 4, seed=3)
INPUTS = InputSet(CENTRE - 0.3, CENTRE + 0.3, CENTRE, 0.9)
COLUMNS = np.stack([np.arange(16), np.arange(16, 32)], axis=1)
VALUES = np.tile([1.0, -1.0], (16, 1))
EVERY = np.arange(16)


def lowered(values):
    return values - 1e-9 * (1 + np.abs(values))


def claimed(bases, leaves):
    """A proof that claims all that its leaves give."""
    least = np.full(16, np.inf)
    for leaf in leaves:
        base, rows = bases[leaf.base], leaf.rows
        found = limits(NETWORK, INPUTS, base, leaf, COLUMNS[rows], VALUES[rows])
        least[rows] = np.minimum(least[rows], found)
    least[~np.isfinite(least)] = -1e3
    return Proof(INPUTS, Claims(COLUMNS, VALUES, lowered(least)), tuple(bases), tuple(leaves))


def whole():
    return claimed([derive(NETWORK, INPUTS)], [Leaf(0, EVERY)])


def crossing(base, relu=4):
    """The elements of a ReLU whose sign is open, the most open first."""
    room = np.minimum(-base.lower[relu], base.upper[relu]).ravel()
    return np.argsort(-room)[: (room > 0).sum()]


def split():
    """The set cut at an input, then each half at ReLUs: four leaves a half, with multipliers."""
    stream, bases, leaves = np.random.default_rng(0), [], []
    for side in ("low", "high"):
        base = derive(NETWORK, INPUTS, (Cut(0, 5, side, float(CENTRE.flat[5])),))
        one, two = (int(each) for each in crossing(base)[:2])
        own = base.slopes[2]
        for first in ("low", "high"):
            for second in ("low", "high"):
                cuts = (Cut(4, one, first), Cut(4, two, second))
                slopes = {2: np.clip(own + stream.normal(size=(16, *own.shape)) / 20, 0, 1)}
                weights = stream.exponential(size=(16, 2)) / 10
                leaves.append(Leaf(len(bases), EVERY, cuts, slopes, weights))
        bases.append(base)
    return claimed(bases, leaves)


WHOLE, SPLIT = whole(), split()


@pytest.mark.parametrize("proof", [WHOLE, SPLIT], ids=["whole", "split"])
def test_a_valid_proof_is_derived_again_and_no_point_breaks_it(proof):
    derived = check(NETWORK, proof)
    assert (derived >= proof.claims.limits).all()
    assert np.allclose(derived, proof.claims.limits, atol=1e-6)
    stream = np.random.default_rng(1)
    steps = stream.choice([-0.3, 0.3], size=(2000, 1, 4, 4))
    length = np.sqrt(np.square(steps).sum(axis=(1, 2, 3), keepdims=True))
    steps = steps * np.minimum(1, INPUTS.radius / length)
    outputs = values_of_cases(NETWORK, CENTRE + steps)[-1].reshape(2000, -1)
    found = outputs[:, :16] - outputs[:, 16:]
    assert (found >= derived).all()


def test_cuts_and_a_cut_input_make_the_limits_tighter_on_average():
    base = derive(NETWORK, INPUTS)
    one = int(crossing(base)[0])
    leaves = [Leaf(0, EVERY, (Cut(4, one, side),)) for side in ("low", "high")]
    halves = claimed([base], leaves)
    assert check(NETWORK, halves).mean() > check(NETWORK, WHOLE).mean()
    middle = float(CENTRE.flat[5])
    parts = [derive(NETWORK, INPUTS, (Cut(0, 5, side, middle),)) for side in ("low", "high")]
    parted = claimed(parts, [Leaf(0, EVERY), Leaf(1, EVERY)])
    assert check(NETWORK, parted).mean() > check(NETWORK, WHOLE).mean()


def test_a_claim_without_a_leaf_is_derived_by_intervals():
    both = replace(WHOLE, leaves=(Leaf(0, np.arange(4)),))
    alone = replace(WHOLE, bases=(), leaves=())
    low = replace(both.claims, limits=np.full(16, -np.inf))
    mixed = check(NETWORK, replace(both, claims=low))
    plain = check(NETWORK, replace(alone, claims=low))
    assert np.array_equal(mixed[4:], plain[4:])
    assert (mixed[:4] > plain[:4]).all()
    with pytest.raises(IntegrityError, match="claim 4 says at least"):
        check(NETWORK, both)


def test_a_base_by_intervals_is_accepted_and_looser():
    base = derive(NETWORK, INPUTS, hidden="intervals")
    proof = claimed([base], [Leaf(0, EVERY)])
    assert (check(NETWORK, proof) <= check(NETWORK, WHOLE) + 1e-6).all()


def test_a_base_with_slopes_of_its_own_is_accepted():
    slopes = {relu: np.full((2, 4, 4), 0.3) for relu in NETWORK.relus}
    base = derive(NETWORK, INPUTS, slopes=slopes)
    proof = claimed([base], [Leaf(0, EVERY)])
    assert (check(NETWORK, proof) >= proof.claims.limits).all()


def changed(values, at, by):
    copy = values.copy()
    copy.flat[at] += by
    return copy


def with_base(proof, **fields):
    return replace(proof, bases=(replace(proof.bases[0], **fields), *proof.bases[1:]))


def with_leaf(proof, **fields):
    return replace(proof, leaves=(replace(proof.leaves[0], **fields), *proof.leaves[1:]))


def with_limits(proof, side, relu, by):
    """One limit that intervals do not give, tightened."""
    base = proof.bases[0]
    at, limits_of = crossing(base, relu)[0], getattr(base, side)
    return with_base(proof, **{side: {**limits_of, relu: changed(limits_of[relu], at, by)}})


def with_claims(proof, **fields):
    return replace(proof, claims=replace(proof.claims, **fields))


TAMPERED = {
    "a limit raised": lambda p: (
        with_claims(p, limits=changed(p.claims.limits, 7, 1e-6)), "claim 7 says at least"),
    "a factor changed": lambda p: (
        with_claims(p, values=changed(p.claims.values, 8, -0.01)), "claim 4 says at least"),
    "a lower limit tightened": lambda p: (
        with_limits(p, "lower", 4, 1e-6), "base 0's lower limit of ReLU 4.*can be derived"),
    "an upper limit tightened": lambda p: (
        with_limits(p, "upper", 4, -1e-6), "base 0's upper limit of ReLU 4.*can be derived"),
    "a first limit tightened": lambda p: (
        with_limits(p, "lower", 2, 1e-6), "base 0's lower limit of ReLU 2"),
    "another slope": lambda p: (
        with_base(p, slopes={**p.bases[0].slopes, 2: 1 - p.bases[0].slopes[2]}),
        "limit of ReLU 4.*can be derived"),
    "a slope above 1": lambda p: (
        with_base(p, slopes={**p.bases[0].slopes, 2: p.bases[0].slopes[2] + 1e-9}),
        "slopes of ReLU 2 must be 0 to 1.*: 1.0"),
    "a NaN slope": lambda p: (
        with_base(p, slopes={**p.bases[0].slopes, 2: p.bases[0].slopes[2] * np.nan}),
        "slopes of ReLU 2 must be finite"),
    "the box enlarged": lambda p: (
        replace(p, inputs=replace(p.inputs, high=p.inputs.high + 1e-4)), "can be derived"),
    "the radius enlarged": lambda p: (
        replace(p, inputs=replace(p.inputs, radius=0.901)), "can be derived"),
    "the ball left out": lambda p: (
        replace(p, inputs=replace(p.inputs, centre=None)), "can be derived"),
    "a NaN radius": lambda p: (
        replace(p, inputs=replace(p.inputs, radius=np.nan)), "radius must be at least 0, got nan"),
    "the centre outside": lambda p: (
        replace(p, inputs=replace(p.inputs, centre=p.inputs.high + 1)), "centre lies outside"),
    "corners swapped": lambda p: (
        replace(p, inputs=replace(p.inputs, low=p.inputs.high, high=p.inputs.low)),
        "low corner lies above"),
    "a NaN corner": lambda p: (
        replace(p, inputs=replace(p.inputs, low=p.inputs.low * np.nan)), "low corner must be fin"),
    "a corner of single precision": lambda p: (
        replace(p, inputs=replace(p.inputs, low=p.inputs.low.astype(np.float32))),
        r"\(1, 4, 4\) float64, got \(1, 4, 4\) float32"),
    "a NaN claim": lambda p: (
        with_claims(p, limits=p.claims.limits * np.nan), "limits are NaN"),
    "an output that is not there": lambda p: (
        with_claims(p, columns=p.claims.columns + 1), r"none of the 32 outputs, at \(15, 1\)"),
    "no outputs": lambda p: (
        with_claims(p, columns=p.claims.columns[:, :0]), r"\(r, t\) int64, t at least 1"),
    "an output twice": lambda p: (
        with_claims(p, columns=p.claims.columns * 0), "columns repeat"),
    "factors of a wrong shape": lambda p: (
        with_claims(p, values=p.claims.values[:5]), r"values must be \(16, 2\)"),
    "limits of a wrong shape": lambda p: (
        with_claims(p, limits=p.claims.limits[:5]), r"limits must be \(16,\)"),
    "limits of a ReLU missing": lambda p: (
        with_base(p, lower={2: p.bases[0].lower[2]}), r"lower of the ReLUs \(2, 4\), has \[2\]"),
    "limits the wrong way round": lambda p: (
        with_base(p, upper={**p.bases[0].upper, 4: p.bases[0].lower[4] - 1}), "above its upper"),
    "limits of a wrong shape of ReLU": lambda p: (
        with_base(p, lower={**p.bases[0].lower, 4: p.bases[0].lower[4][:1]}), r"must be \(2, 4, 4"),
    "an infinite limit": lambda p: (
        with_base(p, lower={**p.bases[0].lower, 4: p.bases[0].lower[4] - np.inf}), "be finite"),
    "a base that is not there": lambda p: (with_leaf(p, base=2), "leaf 0 stands on base 2 of"),
    "a claim that is not there": lambda p: (with_leaf(p, rows=EVERY + 1), "none of the 16 claims"),
    "a negative claim": lambda p: (with_leaf(p, rows=EVERY - 1), "none of the 16 claims"),
    "a claim twice": lambda p: (with_leaf(p, rows=EVERY // 2), "names a claim twice"),
}  # fmt: skip


@pytest.mark.parametrize("proof", [WHOLE, SPLIT], ids=["whole", "split"])
@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_proof_is_refused(name, proof):
    tampered, message = TAMPERED[name](proof)
    with pytest.raises(IntegrityError, match=message):
        check(NETWORK, tampered)


def first_cuts(proof, **fields):
    cuts = proof.leaves[0].cuts
    return with_leaf(proof, cuts=(replace(cuts[0], **fields), *cuts[1:]))


def first_base_cut(proof, **fields):
    return with_base(proof, cuts=(replace(proof.bases[0].cuts[0], **fields),))


UNFIT = {
    "a leaf dropped": lambda p: (replace(p, leaves=p.leaves[1:]), "do not cover the set.*low side"),
    "a half dropped": lambda p: (replace(p, leaves=p.leaves[:4]), "do not cover.*node 0"),
    "a side repeated": lambda p: (
        replace(p, leaves=(p.leaves[1], *p.leaves[1:])), "nothing is said of the low side"),
    "a cut at another element": lambda p: (first_cuts(p, element=0), "are no tree"),
    "a cut at another ReLU": lambda p: (first_cuts(p, node=2), "are no tree"),
    "a cut elsewhere than 0": lambda p: (first_cuts(p, at=0.1), "must cut ReLU 4 at 0, got 0.1"),
    "a cut of no ReLU": lambda p: (first_cuts(p, node=3), "of node 3, which is no ReLU's"),
    "a cut of no element": lambda p: (first_cuts(p, element=32), "cuts element 32"),
    "a cut without a side": lambda p: (first_cuts(p, side="left"), "side 'left'"),
    "an input cut elsewhere": lambda p: (
        first_base_cut(p, at=float(CENTRE.flat[5]) - 0.01), "are no tree"),
    "input cuts outside": lambda p: (
        replace(p, bases=tuple(
            replace(base, cuts=(replace(base.cuts[0], at=9.0),)) for base in p.bases)),
        "must lie in .*, got 9.0"),
    "an input cut at NaN": lambda p: (first_base_cut(p, at=np.nan), "at nan"),
    "an input cut of a ReLU": lambda p: (first_base_cut(p, node=2, at=0.0), "of node 0"),
    "the other half": lambda p: (first_base_cut(p, side="high"), "can be derived|do not cover"),
    "a negative multiplier": lambda p: (
        with_leaf(p, multipliers=-p.leaves[0].multipliers), "must be at least 0"),
    "a NaN multiplier": lambda p: (
        with_leaf(p, multipliers=np.nan * p.leaves[0].multipliers), "must be finite"),
    "multipliers of another shape": lambda p: (
        with_leaf(p, multipliers=p.leaves[0].multipliers[:, :1]), r"must be \(16, 2\)"),
    "other multipliers": lambda p: (
        with_leaf(p, multipliers=p.leaves[0].multipliers + 5), "says at least"),
    "leaf slopes below 0": lambda p: (
        with_leaf(p, slopes={2: p.leaves[0].slopes[2] - 1e-9}), "must be 0 to 1"),
    "leaf slopes of another shape": lambda p: (
        with_leaf(p, slopes={2: p.leaves[0].slopes[2][:3]}), r"must be \(16, 2, 4, 4\)"),
    "leaf slopes of no ReLU": lambda p: (
        with_leaf(p, slopes={3: np.ones((16, 2, 4, 4))}), "no ReLU"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_leaves_that_do_not_fit_are_refused(name):
    tampered, message = UNFIT[name](SPLIT)
    with pytest.raises(IntegrityError, match=message):
        check(NETWORK, tampered)


@pytest.mark.parametrize("position", [1, 3, 6])
@pytest.mark.parametrize("proof", [WHOLE, SPLIT], ids=["whole", "split"])
def test_a_proof_of_other_weights_is_refused(position, proof):
    node = NETWORK.nodes[position]
    arrays = {**node.arrays, "bias": node.arrays["bias"] + np.array([-1e-3, 1e-3])}
    nodes = [*NETWORK.nodes]
    nodes[position] = replace(node, arrays=arrays)
    with pytest.raises(IntegrityError, match="can be derived"):
        check(Network(tuple(nodes)), proof)


def changed_node(position, **fields):
    nodes = [*NETWORK.nodes]
    nodes[position] = replace(nodes[position], **fields)
    return Network(tuple(nodes))


CONV = NETWORK.nodes[1]
MALFORMED = [
    (Network(()), "first node of a network must be its input"),
    (changed_node(0, kind="relu"), "must be its input"),
    (changed_node(2, kind="input"), "must be one of"),
    (changed_node(0, shape=(1, 4, 4.0)), "described by whole numbers"),
    (changed_node(0, shape=(1, 0, 4)), "has shape"),
    (changed_node(1, settings={**CONV.settings, "stride": (1.5, 1)}), "described by whole"),
    (changed_node(1, settings={**CONV.settings, "stride": ("1", 1)}), "described by whole"),
    (changed_node(2, inputs=(2,)), "must read earlier nodes"),
    (changed_node(2, inputs=(-1,)), "must read earlier nodes"),
    (changed_node(2, inputs=(1, 0)), "one input, got 2"),
    (changed_node(2, shape=(2, 4, 5)), "must have the shape of its inputs"),
    (changed_node(1, shape=(2, 4, 5)), "cannot apply arrays"),
    (changed_node(1, shape=(2, 3, 4)), "cannot apply arrays"),
    (changed_node(5, settings={"axis": (-1,)}), "cannot have axis"),
    (changed_node(5, settings={"axis": (3,)}), "cannot have"),
    (changed_node(5, settings={}), "must have the settings"),
    (changed_node(1, settings={**CONV.settings, "stride": (0, 1)}), "cannot have stride"),
    (changed_node(1, settings={**CONV.settings, "stride": (1,)}), "cannot have stride"),
    (changed_node(1, arrays={"weight": CONV.arrays["weight"]}), "must have the arrays"),
    (changed_node(1, arrays={**CONV.arrays, "bias": np.full(2, np.nan)}), "finite bias"),
    (changed_node(1, arrays={**CONV.arrays, "bias": np.zeros(1)}), "cannot apply arrays"),
    (changed_node(1, arrays={**CONV.arrays, "weight": numbers(2, 3, 3, 3)}), "cannot be computed"),
]  # fmt: skip


@pytest.mark.parametrize(("network", "problem"), MALFORMED)
def test_a_malformed_network_is_refused(network, problem):
    with pytest.raises(IntegrityError, match=problem):
        check(network, WHOLE)


@pytest.mark.parametrize(
    "node",
    [
        Node("scale", (0,), (2, 4), {"factor": np.ones((2, 4)), "shift": np.zeros(1)}),
        Node("scale", (0,), (4,), {"factor": np.ones((2, 4)), "shift": np.zeros(1)}),
        Node("take", (0,), (2,), {"index": np.array([0, -1])}, {"axis": (0,)}),
        Node("take", (0,), (2,), {"index": np.array([0, 4])}, {"axis": (0,)}),
        Node("permute", (0,), (4,), {}, {"axes": (1,)}),
        Node("reshape", (0,), (2, 3)),
        Node("dense", (0,), (1, 4), {"weight": np.ones((4, 4)), "bias": np.zeros((1, 4))}),
        Node("along", (0,), (3,), {"weight": np.ones((3, 5))}, {"axis": (0,)}),
    ],
    ids=lambda node: node.kind,
)
def test_a_node_that_would_be_misread_is_refused(node):
    network = Network((Node("input", (), (4,)), node))
    inputs = InputSet(np.zeros(4), np.ones(4))
    claims = Claims(np.array([[0]]), np.ones((1, 1)), np.array([-np.inf]))
    with pytest.raises(IntegrityError, match=rf"node 1 \({node.kind}\)"):
        check(network, Proof(inputs, claims))


def test_a_set_cut_twice_keeps_what_both_cuts_leave():
    cuts = (Cut(0, 1, "low", 0.7), Cut(0, 1, "high", 0.2))
    left = halved(InputSet(np.zeros(2), np.ones(2)), cuts)
    assert left.low.tolist() == [0, 0.2]
    assert left.high.tolist() == [1, 0.7]


def test_cuts_of_two_bases_never_make_one_tree():
    base = derive(NETWORK, INPUTS)
    one = int(crossing(base)[0])
    leaves = [Leaf(i, EVERY, (Cut(4, one, side),)) for i, side in enumerate(("low", "high"))]
    with pytest.raises(IntegrityError, match="are no tree"):
        check(NETWORK, claimed([base, base], leaves))


def test_a_base_that_no_leaf_uses_is_checked_as_well():
    wrong = replace(WHOLE.bases[0], lower={at: x + 1 for at, x in WHOLE.bases[0].lower.items()},
                    upper={at: x + 2 for at, x in WHOLE.bases[0].upper.items()})  # fmt: skip
    with pytest.raises(IntegrityError, match="base 1's lower limit"):
        check(NETWORK, replace(WHOLE, bases=(*WHOLE.bases, wrong)))


def test_a_network_without_relus_needs_a_base_without_limits():
    network = Network((NETWORK.nodes[0], NETWORK.nodes[1]))
    proof = replace(WHOLE, claims=replace(WHOLE.claims, limits=np.full(16, -100.0)))
    derived = check(network, replace(proof, bases=(Base((), {}, {}, {}),)))
    assert (derived > -100).all()
