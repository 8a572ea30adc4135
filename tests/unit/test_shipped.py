"""Weights that come with the package: small, whole, and better than nothing."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest
import torch

import robustbench_med as rb
from robustbench_med.commands.train import train_plan
from robustbench_med.components import find, names
from robustbench_med.errors import InputError
from robustbench_med.models import load_model
from robustbench_med.plan import load_plan, parse_plan, read_toml
from robustbench_med.questions import build_cohort, build_metrics
from robustbench_med.shipped import FOLDER, located
from robustbench_med.shipped import names as shipped
from robustbench_med.training.card import read_card

SYSTEMS = Path(__file__).parents[2] / "examples" / "systems"
WITHOUT = {
    "interpolation", "pipeline", "slicewise", "spline", "total_variation", "wavelet_l1",
    "zero_filled",
}  # fmt: skip
"""Nothing to train, or made of other networks."""
LEAST = {
    "acnn_seg": ("dice_lv", 0.9), "acnn_sr": ("psnr", 23), "bai_fcn": ("dice_lv", 0.9),
    "deep_cascade": ("psnr_complex", 22), "espcn": ("psnr", 23), "unet": ("dice_lv", 0.9),
    "fcn8s": ("dice_lv", 0.8), "tl_network": ("dice_lv", 0.8), "synnet": ("dice_lv", 0.85),
    "linet": ("dice_lv", 0.75), "fastmri_unet": ("psnr_complex", 20), "lenet": ("correct", 0.4),
    "resnet": ("correct", 0.4), "mlp": ("correct", 0.8), "dynamic_cascade": ("psnr_complex", 22),
    "crnn_mri": ("psnr_complex", 22), "forest": ("dice_liver", 0.7),
    "deepmedic": ("dice_lv", 0.9), "plain_fcn": ("dice_lv", 0.85),
}  # fmt: skip
"""Well under what docs/systems.md measures on 64 patients."""


def plans():
    spec = importlib.util.spec_from_file_location("ship", SYSTEMS / "ship.py")
    ship = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ship)
    found = {}
    for name in ship.PLANS:
        plan = load_plan(SYSTEMS / f"{name}.toml")
        found[plan.model["use"]] = plan
    return found


@pytest.fixture(scope="module")
def plan_of():
    sys.path.insert(0, str(SYSTEMS))
    yield plans()
    sys.path.remove(str(SYSTEMS))


def test_every_network_that_learns_comes_trained():
    assert set(shipped()) == set(names("networks")) - WITHOUT


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_are_small_whole_and_load(name, plan_of):
    weights = located(f"shipped:{name}", "anywhere")
    assert weights.stat().st_size <= 2_000_000
    card = read_card(weights)
    assert card.network == name
    if "preset" in inspect.signature(find("networks", name)).parameters:
        assert card.settings["preset"] == "small"
    entry = {**plan_of[name].model, "weights": f"shipped:{name}"}
    model = load_model(entry)
    assert sum(p.numel() for p in model.network.parameters()) == card.parameters


@pytest.mark.parametrize("name", LEAST)
def test_shipped_weights_work_on_fresh_patients(name, plan_of):
    plan = plan_of[name]
    raw = read_toml(SYSTEMS / f"{plan.name}.toml")
    count = 24 if raw["metrics"][0]["use"] == "correct" else 3
    raw["cohort"] |= {"patients": {"train": 1, "test": count}, "seed": 99}
    plan = parse_plan(raw, SYSTEMS / f"{plan.name}.toml")
    cohort = build_cohort(plan)
    model = load_model({**plan.model, "weights": f"shipped:{name}"}, cohort=cohort)
    metric, least = LEAST[name]
    probe = rb.clean({metric: build_metrics(plan, cohort.task)[metric]})
    values = [record.value for record in rb.evaluate(model, cohort, [probe])]
    assert torch.tensor(values).nanmean() > least


def test_a_part_of_a_pipeline_and_a_start_may_be_shipped(tmp_path):
    raw = {
        "name": "parts",
        "cohort": {"use": "synthetic_cine", "task": "chain", "patients": 2, "size": 64},
        "model": {
            "use": "pipeline",
            "reconstruction": {"use": "deep_cascade", "weights": "shipped:deep_cascade"},
            "segmentation": {"use": "unet", "weights": "shipped:unet"},
        },
        "train": {"epochs": 1, "start": "shipped:unet"},
    }
    plan = parse_plan(raw, tmp_path / "plan.toml")
    assert plan.model["segmentation"]["weights"] == str(FOLDER / "unet.safetensors")
    assert plan.train["start"] == str(FOLDER / "unet.safetensors")


def test_what_is_not_shipped_is_refused_with_what_is(tmp_path):
    with pytest.raises(
        InputError, match=r"'shipped:unte': .*did you mean 'unet'\?; or name a file"
    ):
        located("shipped:unte", tmp_path)
    with pytest.raises(InputError, match=r"known: acnn_seg, .*\bunet\b"):
        located("shipped:", tmp_path)


def test_shipped_weights_are_never_trained_over(tmp_path):
    raw = read_toml(SYSTEMS / "unet.toml")
    raw["model"]["weights"] = "shipped:unet"
    before = (FOLDER / "unet.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"'shipped:unet' comes with the package"):
        train_plan(parse_plan(raw, tmp_path / "unet.toml"), quiet=True)
    assert (FOLDER / "unet.safetensors").read_bytes() == before


def test_shipped_weights_of_another_network_are_refused():
    with pytest.raises(InputError, match=r"its card says 'bai_fcn', the plan says 'unet'"):
        load_model({"use": "unet", "preset": "small", "weights": "shipped:bai_fcn"})


def test_shipped_weights_of_another_preset_are_refused():
    with pytest.raises(InputError, match=r"preset"):
        load_model({"use": "unet", "preset": "full", "weights": "shipped:unet"})
