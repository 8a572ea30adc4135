"""The plans from k-space to the answer: they can be read, and fit one another."""

import runpy
from pathlib import Path

import pytest
import torch

import robustbench_med as rb
from robustbench_med.models import build_network
from robustbench_med.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]
PLANS = ROOT / "examples" / "kspace"
NAMES = sorted(path.stem for path in PLANS.glob("*.toml"))
TRAINED = [name for name in NAMES if name != "patients"]


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(PLANS))  # the commands look beside the plan themselves


def plan(name):
    return rb.load_plan(PLANS / f"{name}.toml")


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(ROOT / "benchmarks" / "kspace_lines.py"))


def test_all_plans_are_of_the_same_patients():
    own = {"task", "lines", "slices"}
    told = [{k: v for k, v in plan(n).cohort.settings.items() if k not in own} for n in NAMES]
    assert [dict(each, centre_lines=4) for each in told] == [told[NAMES.index("patients")]] * 7


def test_what_a_plan_starts_from_another_one_writes():
    written = {(PLANS / plan(name).model["weights"]).resolve() for name in TRAINED}
    assert len(written) == len(TRAINED) == 6
    used = {Path(plan("linet_codes").train["start"])}
    for name in ("patients", "tuned"):
        stages = (plan(name).model[key] for key in ("reconstruction", "segmentation"))
        used |= {Path(stage["weights"]) for stage in stages}
    assert {path.resolve() for path in used} <= written


def test_the_error_is_the_distance_of_the_measures():
    metric = rb.build("metrics", "kspace_errors:AbsoluteError", measure="lvef")
    signed = rb.build("metrics", "measure_error", measure="lvef")
    draw = torch.Generator().manual_seed(0)
    output = torch.randn(3, 4, 2, 3, 8, 8, generator=draw)
    target = torch.randint(0, 4, (3, 2, 3, 8, 8), generator=draw)
    target[2][target[2] == 1] = 0
    context = {"spacing": torch.full((3, 3), 5.0)}
    found, error = metric(output, target, context), signed(output, target, context)["value"]
    assert torch.equal(found[:2], error[:2].abs())
    assert found[2].isnan()
    assert (metric.unit, metric.better) == (signed.unit, "lower") == ("%", "lower")


def test_the_benchmark_tests_every_system_on_whole_patients(benchmark, tmp_path):
    place = benchmark["Place"](tmp_path, True)
    for name in TRAINED:
        settings = place.plan(name).train
        assert TrainSettings(**settings).epochs == 6
        assert place.plan(name).folder == tmp_path / "plans"
    for key, system in benchmark["SYSTEMS"].items():
        assert set(system.trainings) <= set(TRAINED)
        model = benchmark["located"](system.model)
        asked = place.plan("patients", name=key, model=model, cohort={"lines": 2})
        assert asked.cohort.settings["lines"] == 2
        assert asked.cohort.settings["task"] == "chain"
        assert asked.model["use"] == plan(system.trainings[-1]).model["use"] or key == "serial"
    for name in ("synnet", "linet_codes"):
        cohort = rb.build("cohorts", "synthetic_cine", task="kspace_segmentation", patients=1,
                          size=64, pixel_mm=3.0)  # fmt: skip
        build_network(plan(name).model, cohort)


def test_a_paired_interval_is_students(benchmark):
    first, second = {"a": 3.0, "b": 5.0, "c": 8.0, "d": 1.0}, {"a": 1.0, "b": 4.0, "c": 5.0}
    found = benchmark["paired"](first, {**second, "d": float("nan")})
    # Differences 2, 1, 3: mean 2, deviation 1, and 4.303 is Student's quantile of 2 degrees.
    assert found["value"] == 2
    assert found["low"] == pytest.approx(2 - 4.303 / 3**0.5, rel=1e-3)
    assert (found["patients"], benchmark["paired"](first, {})["value"]) == (3, None)


def test_the_figure_is_the_same_for_the_same_numbers(benchmark):
    one = {"value": 4.0, "low": 3.0, "high": 5.0, "patients": 90}
    results = {f"{key} {n}": {"tested": 100, "lvef_error": one, "dice_lv": one}
               for key in benchmark["SYSTEMS"] for n in (1, 8)}  # fmt: skip
    drawn = [
        benchmark["draw"]("x", 9.0, 3.4, lambda f: benchmark["paint"](f, {"results": results}))
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert "LI-Net" in drawn[0]
