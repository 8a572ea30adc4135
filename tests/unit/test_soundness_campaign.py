"""A small part of the soundness campaign runs here; the stored one was large enough and clean."""

import itertools
import json
import runpy
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_med.certify.lowering_aten import RULES

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "soundness.py"))
STORED = json.loads((ROOT / "benchmarks" / "results" / "soundness.json").read_text("utf-8"))
ROWS = list(STORED["rows"].values())
LIMITS = [limit for row in ROWS for limit in row["limits"]]
SHAPES = SCRIPT["SHAPES"]
FEW = SCRIPT["Spent"](drawn=64, starts=2, steps=8)
# Rules that make_fx never meets in a plain network: it takes them apart, or they copy.
UNMET = {
    "alias", "chunk", "contiguous", "detach", "flatten", "lift_fresh_copy", "narrow", "positive",
    "reshape", "prelu",
}  # fmt: skip


def some():
    names = {"max_pool", "gated", "two blocks", "6-20-20-4", "average pooling, transposed"}
    return list(zip((s for s in SCRIPT["subjects"]() if s.name in names), itertools.cycle(SHAPES)))


@pytest.mark.parametrize(("subject", "shape"), some(), ids=lambda each: getattr(each, "name", each))
def test_no_point_breaks_a_limit(subject, shape):
    row = SCRIPT["tried"](subject, shape, 99, FEW)
    assert row["points"] >= 300
    assert sum(limit["violations"] for limit in row["limits"]) == 0
    assert row["limits"]


@pytest.mark.parametrize("ball", [False, True])
def test_no_point_breaks_a_limit_of_a_part(ball):
    row = SCRIPT["cut"](99, ball=ball)
    assert sum(limit["violations"] for limit in row["limits"]) == 0


def test_limits_stay_below_a_truth_that_branch_and_bound_reaches():
    row = SCRIPT["enumerated"](999)
    assert row["truth_reached"]
    assert sum(limit["violations"] for limit in row["limits"]) == 0


def test_a_limit_that_is_too_high_is_noticed():
    compared = SCRIPT["tried"].__globals__["broken_by"]
    seen, limit = (compared.__globals__[name] for name in ("Seen", "Limit"))
    seen = seen(torch.tensor([1.0, -2.0]).double(), 1, 2.0)
    high = compared(limit("ours", torch.tensor([1.0, -1.9]).double()), seen)
    assert high["violations"] == 1
    assert high["worst"] == pytest.approx(0.1)
    assert high["relative"] == pytest.approx(0.1 / 0.9)
    exact = compared(limit("ours", torch.tensor([1.0, -2.0]).double()), seen)
    assert exact["violations"] == 0


class Named(TorchDispatchMode):
    """Operators that a network is made of, by the names that they are written out by."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        self.names.add(name if name.endswith("__") else name.removesuffix("_"))
        return function(*args, **(kwargs or {}))


def test_every_operator_that_is_written_out_is_among_those_attacked():
    named = Named()
    for subject in SCRIPT["subjects"]():
        if subject.family == "operators, written out":
            network = subject.built(0)
            with named, torch.no_grad():
                network(torch.zeros(1, *subject.shape).double())
    assert set(RULES) - named.names <= UNMET


def test_the_stored_campaign_found_nothing_at_a_million_points():
    assert sum(row["points"] for row in ROWS) >= 1_000_000
    assert sum(limit["violations"] for limit in LIMITS) == 0
    assert all(limit["over"] <= 0 for limit in LIMITS)
    exact = [row for row in ROWS if row["family"] == "tiny, enumerated"]
    assert len(exact) >= 200
    assert all(row["truth_reached"] for row in exact)


def test_the_stored_campaign_covers_every_family_and_engine():
    families = {subject.family for subject in SCRIPT["subjects"]()}
    assert {row["family"] for row in ROWS} == families | {"tiny, enumerated", "cut inputs"}
    names = {(row["family"], row["name"]) for row in ROWS}
    assert {(subject.family, subject.name) for subject in SCRIPT["subjects"]()} <= names
    for engine in SCRIPT["ENGINES"]:
        assert any(limit["engine"].startswith(engine) for limit in LIMITS)
