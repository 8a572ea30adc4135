"""The plans of the reference systems: they can be read, are all measured, and fit one another."""

import runpy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.cases import Batch, Task
from robustbench_med.components import names
from robustbench_med.model import TorchModel
from robustbench_med.questions import build_cohort

ROOT = Path(__file__).parents[2]
PLANS = ROOT / "examples" / "systems"
NAMES = sorted(path.stem for path in PLANS.glob("*.toml"))
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "networks.py"))
SYSTEMS, PAIRS = BENCHMARK["SYSTEMS"], BENCHMARK["PAIRS"]


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(PLANS))  # the commands look beside the plan themselves


@cache
def plan(name):
    return rb.load_plan(PLANS / f"{name}.toml")


def below(table):
    """A table of a plan and all tables in it."""
    yield table
    for value in table.values():
        if isinstance(value, dict):
            yield from below(value)


class Doubled(nn.Module):
    """A matrix product of 4 numbers by 4 x 4, with or without a gradient."""

    def __init__(self, *, differentiable):
        super().__init__()
        self.differentiable = differentiable

    def forward(self, image):
        answer = image.flatten(1) @ (2 * torch.eye(4))
        return answer if self.differentiable else answer.detach()


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_can_be_read_and_is_measured(name):
    assert plan(name).name == name
    assert name in {system.name for system in SYSTEMS}


def test_every_registered_network_is_measured():
    used = {table.get("use") for name in NAMES for table in below(plan(name).model)}
    assert set(names("networks")) <= used


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_is_placed_with_weights_of_its_own(system, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PLANS))
    placed = BENCHMARK["placed"](system, tmp_path)
    assert placed.folder == tmp_path / "plans"
    if "weights" in placed.model:
        assert placed.model["weights"].endswith(f"{system.suffix}.safetensors")


def test_weights_that_a_plan_takes_are_written_by_one_before_it():
    written = set()
    for system in SYSTEMS:
        told = plan(system.plan)
        train = dict(told.train or {})
        tables = below({"model": told.model, "train": train})
        named = [table["weights"] for table in tables if "weights" in table]
        named += [train["start"]] if "start" in train else []
        learns = bool(train) or system.plan == "forest"
        own = Path(told.model.get("weights", "")).name if learns else ""
        assert {Path(path).name for path in named} <= written | {own}, system.name
        written.add(own)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pairs_are_of_the_same_patients_and_metrics(first, second):
    one, other = plan(first), plan(second)
    assert one.cohort == other.cohort
    assert [metric.name for metric in one.metrics] == [metric.name for metric in other.metrics]


def test_series_are_learned_in_strips_and_tested_whole():
    told = plan("dynamic_cascade")
    assert build_cohort(told, "train").cases[0].image.shape == (2, 8, 64, 16)
    assert build_cohort(told).cases[0].image.shape == (2, 8, 64, 64)
    assert len(build_cohort(told, "train")) == 4 * told.cohort.settings["patients"]["train"]


@pytest.mark.parametrize("differentiable", [True, False])
def test_operations_without_a_gradient_have_no_way_back(differentiable):
    network = Doubled(differentiable=differentiable)
    model = TorchModel(network, Task("classification", ("a", "b", "c", "d")), (0, 1))
    batch = Batch(("one",), torch.rand(1, 1, 2, 2), torch.zeros(1, dtype=torch.long))
    once = 2 * 4 * 4
    expected = {"forward": once, "both": 2 * once if differentiable else None}
    assert BENCHMARK["operations"](model, batch) == expected
