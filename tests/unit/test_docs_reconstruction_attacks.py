"""The page of attacked reconstructions prints the stored figures, and claims what they show."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_med.physics.fourier import fft2c, ifft2c, to_complex

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "amplification.py"))
STORED = json.loads((ROOT / "benchmarks" / "results" / "amplification.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "reconstruction_attacks.md").read_text("utf-8")
SYSTEMS = STORED["systems"]
EVERY = [(name, str(eps)) for name in SYSTEMS for eps in SCRIPT["RADII"]]
STAYS, MOVES = PAGE.split("\n## The reference moves")


@pytest.mark.parametrize("name", ["nmse", "gain", "local_linf", "lesions"])
def test_what_is_measured_with_the_reference_at_rest_is_printed_there(name):
    assert "\n".join(SCRIPT["tables"](STORED)[name]) in STAYS


@pytest.mark.parametrize("name", ["moves", "longer"])
def test_the_other_tables_are_printed_after_it(name):
    assert "\n".join(SCRIPT["tables"](STORED)[name]) in MOVES


def test_the_page_says_of_how_many_patients_and_how_noisy():
    assert f"{len(STORED['cases'])} simulated patients" in PAGE
    assert f"a length of {np.median(STORED['noise_share']):.3f} of" in PAGE
    assert len(set(STORED["cases"])) == SCRIPT["PATIENTS"]


@pytest.mark.parametrize(("name", "eps"), EVERY)
def test_the_search_with_slopes_finds_more_than_blind_ones_and_than_noise(name, eps):
    found = SYSTEMS[name]["stays"][eps]["nmse"]
    best = np.array(found["apgd"])
    for other in ("clean", "noise", "random_search", "square"):
        assert (best >= np.array(found[other])).all(), other


@pytest.mark.parametrize(("name", "eps"), EVERY)
def test_a_longer_search_finds_little_more(name, eps):
    few = SYSTEMS[name]["longer"][eps]
    assert np.mean(few["apgd_longer"]) <= 1.1 * np.mean(few["apgd"])
    assert np.mean(few["square_longer"]) < np.mean(few["apgd"])


@pytest.mark.parametrize("eps", ["0.02", "0.1"])
def test_zero_filling_keeps_the_length_of_a_change(eps):
    """Its rows are orthonormal on the acquired samples: every gain is 1."""
    gain = SYSTEMS["zero_filled"]["stays"][eps]["gain"]
    assert gain["worst"] == pytest.approx(len(STORED["cases"]) * [1.0], abs=1e-3)
    assert gain["noise"] == pytest.approx(len(STORED["cases"]) * [1.0], abs=1e-3)


def test_the_wavelets_that_are_attacked_are_nearly_as_good_as_the_default():
    cohort, batch = SCRIPT["hearts"]()
    model = SCRIPT["load_model"]({"use": "wavelet_l1"}, cohort=cohort)
    with torch.no_grad():
        default = SCRIPT["Nmse"]()(model(batch.image, batch.context), batch, model.task)
    clean = SYSTEMS["wavelet_l1"]["stays"]["0.02"]["nmse"]["clean"]
    assert np.mean(clean) < 1.1 * float(default.mean())


@pytest.mark.parametrize("eps", ["0.02", "0.1"])
def test_where_the_reference_moves_zero_filling_is_as_wrong_as_the_closed_form_says(eps):
    """The worst r is along what of x was not sampled, which the answer lacks."""
    _, batch = SCRIPT["hearts"]()
    truth = to_complex(batch.target)[:, 0].to(torch.complex128)
    mask = batch.context["mask"][:, 0].double()
    unseen = ifft2c((1 - mask) * fft2c(truth))
    noise = (to_complex(batch.image)[:, 0] - mask * fft2c(truth)).flatten(1).norm(dim=1)
    radius = float(eps) * truth.flatten(1).norm(dim=1)
    hidden = unseen.flatten(1).norm(dim=1)
    moved = truth + unseen * (radius / hidden)[:, None, None]
    power = moved.flatten(1).norm(dim=1).square()
    worst = ((hidden + radius).square() + noise.square()) / power
    found = torch.tensor(SYSTEMS["zero_filled"]["moves"][eps]["apgd"]).double()
    torch.testing.assert_close(found, worst, rtol=2e-3, atol=0)


def test_a_lesion_is_as_high_in_the_magnitude_as_alone_and_lies_in_its_region():
    _, batch = SCRIPT["hearts"]()
    present, absent = SCRIPT["lesions"](batch)
    rise = present.target.norm(dim=1) - absent.target.norm(dim=1)
    feature = present.context["feature"][:, 0]
    torch.testing.assert_close(rise, feature, atol=2e-4, rtol=0)
    outside = feature.where(present.context["feature_mask"][:, 0] == 0, 0)
    assert float(outside.max()) < 0.1 * SCRIPT["LESION"]
    clean = present.image - absent.image
    acquired = present.context["mask"] != 0
    assert float(clean.where(~acquired, 0).abs().max()) == 0


def test_the_mean_of_a_page_is_the_mean_and_its_limits_hold_it():
    values = np.random.default_rng(0).normal(2.0, 0.5, 40)
    centre, low, high = SCRIPT["mean"](values)
    assert centre == pytest.approx(values.mean())
    reach = 2.02 * values.std(ddof=1) / math.sqrt(40)
    assert low == pytest.approx(centre - reach, abs=0.06)
    assert high == pytest.approx(centre + reach, abs=0.06)
    centre, low, high = SCRIPT["mean"](np.exp(values), ratio=True)
    assert centre == pytest.approx(math.exp(values.mean()))
    assert low < centre < high


def test_a_system_whose_patients_all_agree_has_no_limits():
    assert SCRIPT["shown"]([1.0, 1.0, 1.0]) == "1.000"
    assert SCRIPT["share"]([0.5, 0.4, 0.6, 0.1]) == "2 of 4 [0.07, 0.93]"


def test_noise_raises_the_error_by_less_than_half_of_what_the_search_does():
    for system in SYSTEMS.values():
        error = {name: np.mean(values) for name, values in system["stays"]["0.1"]["nmse"].items()}
        assert error["noise"] - error["clean"] < 0.5 * (error["apgd"] - error["clean"])
    assert np.median(STORED["noise_share"]) < 0.1


@pytest.mark.parametrize("eps", ["0.02", "0.1"])
def test_the_networks_amplify_less_than_total_variation_and_the_unet_more_than_wavelets(eps):
    gain = {name: np.array(system["stays"][eps]["gain"]["worst"])
            for name, system in SYSTEMS.items()}  # fmt: skip
    for less, more in (
        ("deep_cascade", "fastmri_unet"), ("fastmri_unet", "total_variation"),
        ("wavelet_l1", "fastmri_unet"),
    ):  # fmt: skip
        high = SCRIPT["mean"](gain[less] / gain[more], ratio=True)[2]
        assert high < 1, (less, more)


@pytest.mark.parametrize("eps", ["0.02", "0.1"])
def test_the_unet_damps_noise_and_has_the_largest_ratio(eps):
    gains = {name: system["stays"][eps]["gain"] for name, system in SYSTEMS.items()}
    assert max(gains["fastmri_unet"]["noise"]) < 1
    ratio = {name: np.mean(np.log(gain["worst"]) - np.log(gain["noise"]))
             for name, gain in gains.items()}  # fmt: skip
    assert max(ratio, key=ratio.get) == "fastmri_unet"


def test_half_a_lesions_length_turns_most_lesions_of_the_cascade():
    found = SYSTEMS["deep_cascade"]["lesions"]["0.5"]
    for what in ("lost", "invented"):
        clean, worst = (np.array(found[what][a]) >= SCRIPT["LOST_AT"] for a in ("clean", "apgd"))
        assert (worst & ~clean).sum() > 0.5 * (~clean).sum(), what


def test_only_total_variation_gives_more_than_a_twentieth_to_a_longer_search():
    grown = {
        name: np.mean(system["longer"]["0.1"]["apgd_longer"])
        / np.mean(system["longer"]["0.1"]["apgd"])
        for name, system in SYSTEMS.items()
    }
    assert [name for name, factor in grown.items() if factor > 1.05] == ["total_variation"]
