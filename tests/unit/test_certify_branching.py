"""Branch and bound decides every margin of tiny networks, and the checker accepts its leaves."""

import functools
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_med.certify.branching import Search, branch, placed
from robustbench_med.certify.dual import Ascent
from robustbench_med.certify.hidden import hidden_limits, limits_of
from robustbench_med.certify.input_sets import on_torch
from robustbench_med.certify.torch_nodes import operations, values
from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.proof import Claims, InputSet, Proof

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tightening_fixture.py"))))
LIKE = torch.zeros((), dtype=torch.float64)
ROW = np.array([1.0, -1.0])


@functools.cache
def tiny(seed):
    """A network of 8 ReLUs over a box, the smallest value of a row, and what a search needs."""
    network = MADE.dense_network(seed, 2, 4, 4, 2)
    centre = np.random.default_rng(seed).uniform(size=2)
    inputs = InputSet(centre - 0.6, centre + 0.6)
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    truth = MADE.exact_minimum(network, inputs.low, inputs.high, ROW)
    return network, inputs, truth, (parts, hidden_limits(parts, sets), sets, torch.as_tensor(ROW))


@pytest.mark.parametrize("seed", range(4))
def test_enough_splits_reach_the_exact_minimum(seed):
    _, _, truth, asked = tiny(seed)
    proved = branch(*asked, needed=truth - 1e-5, search=Search(budget=5000))
    assert proved.falsifier is None
    assert truth - 1e-5 <= proved.limit <= truth + 1e-9
    broken = branch(*asked, needed=truth + 1e-5, search=Search(budget=5000))
    assert broken.falsifier is not None
    assert broken.limit <= truth + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_a_falsifier_is_in_the_set_and_falsifies(seed):
    _, inputs, truth, asked = tiny(seed)
    needed = truth + 0.05
    found = branch(*asked, needed=needed).falsifier
    assert found is not None
    assert ((found.numpy() >= inputs.low) & (found.numpy() <= inputs.high)).all()
    value = values(asked[0], found[None])[-1][0].numpy() @ ROW
    assert truth - 1e-9 <= value < needed


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_search_keeps_to_its_budget_and_every_leaf_holds_on_its_part(seed, budget):
    network, inputs, truth, asked = tiny(seed)
    search = Search(budget=budget, together=4)
    found = branch(*asked, needed=truth - 1e-5, search=search)
    assert found.subproblems <= budget
    assert found.limit <= truth + 1e-9
    ends = [
        MADE.exact_minimum(network, inputs.low, inputs.high, ROW, leaf.cuts)
        for leaf in found.leaves
    ]
    assert min(ends) == pytest.approx(truth, abs=1e-9)
    base = derive(network, inputs)
    for leaf, end in zip(found.leaves, ends, strict=True):
        assert found.limit <= end + 1e-9
        assert derived(network, inputs, base, [leaf]) <= end + 1e-9


def derived(network, inputs, base, leaves):
    columns, factors = np.array([[0, 1]]), ROW[None]
    return min(limits(network, inputs, base, leaf, columns, factors).item() for leaf in leaves)


def on_base(network, inputs):
    """What a search needs, its hidden limits taken from a base."""
    base = derive(network, inputs)
    lower, upper = (
        {at: torch.as_tensor(side)[None] for at, side in sides.items()}
        for sides in (base.lower, base.upper)
    )
    return base, (operations(network, LIKE), limits_of(lower, upper), on_torch(inputs, LIKE))


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_checker_accepts_the_leaves_and_derives_the_limit(seed):
    network, inputs, truth, _ = tiny(seed)
    base, asked = on_base(network, inputs)
    claims, leaves = [], []
    for row in (ROW, -ROW):
        end = MADE.exact_minimum(network, inputs.low, inputs.high, row)
        found = branch(*asked, torch.as_tensor(row), needed=end - 1e-4, search=Search(5000))
        assert found.limit >= end - 1e-4
        leaves += placed(found.leaves, 0, len(claims))
        claims.append(found.limit - 1e-7)
    values_of = np.stack([ROW, -ROW])
    columns = np.array([[0, 1]] * 2)
    proof = Proof(inputs, Claims(columns, values_of, np.array(claims)), (base,), tuple(leaves))
    again = check(network, proof)
    np.testing.assert_allclose(again, claims, atol=2e-4)
    assert (again >= claims).all()
    if len(leaves) > 2:
        with pytest.raises(IntegrityError, match="cover"):
            check(network, replace(proof, leaves=tuple(leaves[:1] + leaves[-1:])))
        raised = replace(proof.claims, limits=np.array([truth + 1e-6, claims[1]]))
        with pytest.raises(IntegrityError, match="claim 0"):
            check(network, replace(proof, claims=raised))


def test_the_checker_accepts_leaves_on_a_network_of_every_kind_of_node():
    network = MADE.mixed_network()
    centre = np.random.default_rng(0).normal(size=(2, 5, 6))
    inputs = InputSet(centre - 0.2, centre + 0.2, centre, 0.7)
    base, asked = on_base(network, inputs)
    row = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    one = branch(*asked, row, needed=100.0, search=Search(budget=1))
    aim = one.limit + 0.3
    found = branch(*asked, row, needed=aim, search=Search(budget=400))
    assert found.limit >= aim
    assert len(found.leaves) > 1
    claims = Claims(np.array([[0, 1]]), np.array([[1.0, -1.0]]), np.array([aim - 1e-7]))
    assert check(network, Proof(inputs, claims, (base,), found.leaves))[0] >= aim - 1e-7


def test_in_float32_leaves_are_as_good_to_the_checker():
    network, inputs, truth, _ = tiny(2)
    base = derive(network, inputs)
    like = torch.zeros(())
    parts, sets = operations(network, like), on_torch(inputs, like)
    known = limits_of(
        {at: torch.as_tensor(side).float()[None] for at, side in base.lower.items()},
        {at: torch.as_tensor(side).float()[None] for at, side in base.upper.items()},
    )
    found = branch(parts, known, sets, torch.tensor([1.0, -1.0]), needed=truth - 1e-2)
    assert found.limit >= truth - 1e-2
    claims = Claims(np.array([[0, 1]]), ROW[None], np.array([truth - 1.01e-2]))
    assert check(network, Proof(inputs, claims, (base,), found.leaves))[0] >= truth - 1.01e-2


def test_a_search_is_the_same_every_time_and_a_proved_row_is_not_split():
    _, _, truth, asked = tiny(3)
    one, other = (branch(*asked, needed=truth - 1e-3) for _ in range(2))
    assert one.limit == other.limit
    assert [leaf.cuts for leaf in one.leaves] == [leaf.cuts for leaf in other.leaves]
    easy = branch(*asked, needed=truth - 100)
    assert easy.subproblems == len(easy.leaves) == 1


def test_more_climbing_needs_fewer_parts():
    counts = []
    for steps in (0, 20):
        search = Search(budget=5000, ascent=Ascent(steps=steps))
        counts.append(
            sum(
                branch(*asked, needed=truth - 1e-2, search=search).subproblems
                for _, _, truth, asked in map(tiny, (2,))
            )
        )
    assert counts[1] < counts[0]


def test_a_network_without_relus_is_decided_at_once():
    network = MADE.dense_network(0, 3, 2)
    inputs = InputSet(-np.ones(3), np.ones(3))
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    end = MADE.exact_minimum(network, inputs.low, inputs.high, ROW)
    asked = parts, hidden_limits(parts, sets), sets, torch.as_tensor(ROW)
    assert branch(*asked, needed=end - 1e-6).limit == pytest.approx(end)
    assert branch(*asked, needed=end + 1e-6).falsifier is not None
