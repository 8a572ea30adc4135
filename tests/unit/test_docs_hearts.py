"""The plans of real hearts fit one another, and the page prints what the benchmark stored."""

import json
import tomllib
from pathlib import Path

import pytest

import robustbench_med as rb

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "systems.md").read_text("utf-8")
STORED = json.loads((ROOT / "benchmarks" / "results" / "real_hearts.json").read_text("utf-8"))
PLANS = {
    path.stem: tomllib.loads(path.read_text("utf-8"))
    for path in sorted((ROOT / "examples" / "hearts").glob("*.toml"))
}
EXAMPLE = tomllib.loads((ROOT / "examples" / "cmr.toml").read_text("utf-8"))
METRICS = ("dice_lv", "dice_myo", "dice_rv")


def interval(found, key):
    return f"{found[key]:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def row(name, found):
    """One line of the page's table of real hearts."""
    dice = (interval(found["dice"][metric], "value") for metric in METRICS)
    trained = f"{found['epochs']} | {found['training_seconds']:.0f}"
    return f"| `{name}` | {' | '.join(dice)} | {found['parameters']:,} | {trained} |"


def pair(name, found):
    """One line of the page's table of differences from the U-Net."""
    cells = (interval(found[metric], "difference") for metric in METRICS)
    return f"| {name} minus unet | {' | '.join(cells)} |"


@pytest.mark.parametrize("name", STORED["networks"])
def test_the_page_prints_what_every_network_reached_on_real_hearts(name):
    assert row(name, STORED["networks"][name]) in PAGE


@pytest.mark.parametrize("name", STORED["minus_unet"])
def test_the_page_prints_every_difference_from_the_u_net(name):
    assert pair(name, STORED["minus_unet"][name]) in PAGE


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_tests_the_patients_of_the_example(name):
    volume = {"volume": "whole"} if name == "deepmedic" else {}
    assert PLANS[name]["cohort"] == EXAMPLE["cohort"] | volume
    assert PLANS[name]["seed"] == EXAMPLE["seed"]
    assert PLANS[name]["model"]["preset"] == "small"


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_can_be_read(name, monkeypatch, tmp_path):
    monkeypatch.setenv("RBMED_DATA", str(tmp_path))
    assert rb.load_plan(ROOT / "examples" / "hearts" / f"{name}.toml").name == name


@pytest.mark.parametrize("name", STORED["networks"])
def test_what_is_stored_is_of_the_plan(name):
    held, plan = STORED["networks"][name], PLANS[name]
    assert held["network"] == plan["model"]["use"]
    assert len(held["loss_by_epoch"]) == held["epochs"]
    for key in ("epochs", "batch_size", "learning_rate"):
        assert held[key] == plan["train"][key]


@pytest.mark.parametrize("name", STORED["networks"])
def test_all_were_tested_on_as_many_patients_as_the_example(name):
    assert {held["patients"] for held in STORED["networks"][name]["dice"].values()} == {33}


@pytest.mark.parametrize("name", STORED["minus_unet"])
def test_a_mean_difference_is_the_difference_of_the_means(name):
    own, reference = (STORED["networks"][each]["dice"] for each in (name, "unet"))
    for metric in METRICS:
        gap = own[metric]["value"] - reference[metric]["value"]
        assert STORED["minus_unet"][name][metric]["difference"] == pytest.approx(gap, abs=2e-5)


@pytest.mark.parametrize("name", STORED["networks"])
def test_every_network_had_learned(name):
    curve = STORED["networks"][name]["loss_by_epoch"]
    fallen, last = curve[0] - curve[-1], curve[-max(len(curve) // 5, 2)] - curve[-1]
    goes_on = "start" in PLANS[name]["train"]
    assert curve[-1] < curve[0] / (1 if goes_on else 2)
    assert last < fallen / 5
