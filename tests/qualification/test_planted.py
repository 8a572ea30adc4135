"""Planted truths are planted: who is in a cohort, how images are shown; and twins are twins."""

import runpy
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.ndimage import distance_transform_cdt

import robustbench_med as rb
from robustbench_med.questions import build_cohort

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "planted"
PLANS = sorted(path.stem for path in FOLDER.glob("*.toml"))
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "planted.py"))
NAMED = {"name", "model.weights"}
BY_GROUP = {
    f"cohort.groups.train.{what}.group {number}" for what in ("DCM", "MINF") for number in (1, 2, 3)
}


@pytest.fixture(autouse=True)
def _beside_the_plans(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # the commands look beside the plan themselves


@pytest.fixture
def cohort():
    """Builds a plan's cohort, with fewer patients if told how many and other settings if given."""

    def built(name, split, few=None, **settings):
        plan = rb.load_plan(FOLDER / f"{name}.toml")
        asked = {**plan.cohort.settings, **settings}
        asked |= {"patients": {"train": few, "test": few}} if few else {}
        return build_cohort(replace(plan, cohort=replace(plan.cohort, settings=asked)), split)

    return built


def told(cohort, *names):
    """Attributes of every case, without making its image."""
    summaries = [cohort.cases.summary(index) for index in range(len(cohort))]
    return [tuple(found.attributes[name] for name in names) for found in summaries]


def patients(cohort):
    return [cohort.cases.summary(index).patient_id for index in range(len(cohort))]


def flat(table, before=""):
    """Every setting of a plan by its dotted key."""
    found = {}
    for key, value in table.items():
        name = f"{before}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def settings(name):
    return flat(tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_of_its_own_name_and_claims_are_made_of_it(name):
    plan = rb.load_plan(FOLDER / f"{name}.toml")
    assert plan.name == name
    claims = [claim for claim in BENCHMARK["CLAIMS"] if claim.plan == name]
    assert claims
    assert all((claim.group[0],) in plan.subgroups for claim in claims)


@pytest.mark.parametrize(
    ("planted", "twin", "apart"),
    [
        ("women_few", "women_half", NAMED | {f"cohort.sexes.train.{sex}" for sex in "FM"}),
        ("fat_shortcut", "fat_even", NAMED | BY_GROUP),
        ("fat_shortcut", "fat_cut", NAMED | {"cohort.margin_mm"}),
        ("vendor_d_out", "vendor_d_in", NAMED | {"cohort.vendors.train"}),
        ("vendor_a_out", "vendor_a_in", NAMED | {"cohort.vendors.train"}),
    ],
)
def test_a_twin_differs_in_nothing_but_what_is_planted(planted, twin, apart):
    one, other = settings(planted), settings(twin)
    assert {key for key in one | other if one.get(key) != other.get(key)} == apart


def test_the_network_of_the_shortcut_is_what_is_given_the_heart_alone():
    whole, cut = settings("fat_shortcut"), settings("fat_shortcut_cut")
    apart = {key for key in whole | cut if whole.get(key) != cut.get(key)}
    training = {key for key in whole if key.startswith("train.")}
    assert apart == {"name", "cohort.margin_mm"} | training
    assert not any(key.startswith("train.") for key in cut)


@pytest.mark.parametrize(
    ("name", "split", "women"),
    [("women_few", "train", 15), ("women_half", "train", 150), ("women_few", "test", 400),
     ("women_half", "test", 400)],
)  # fmt: skip
def test_women_have_their_planted_share(name, split, women, cohort):
    found = cohort(name, split)
    sexes = Counter(sex for (sex,) in told(found, "sex"))
    assert sexes == {"F": women, "M": {"train": 300, "test": 800}[split] - women}


def test_twins_are_tested_on_the_same_patients_and_trained_on_others(cohort):
    for planted, twins in (
        ("women_few", ["women_half"]),
        ("fat_shortcut", ["fat_shortcut_cut", "fat_cut", "fat_even"]),
        ("vendor_d_out", ["vendor_d_in"]),
        ("vendor_a_out", ["vendor_a_in"]),
    ):
        tested = patients(cohort(planted, "test", 12))
        assert len(set(tested)) == 12
        for name in (planted, *twins):
            assert patients(cohort(name, "test", 12)) == tested
            assert not {*tested} & {*patients(cohort(name, "train", 40))}


def test_the_target_is_the_mass_and_the_error_a_share_of_it(cohort):
    from truths import RelativeError

    found = cohort("women_few", "test", 4)
    cases = [found.cases[index] for index in range(4)]
    target = torch.stack([case.target for case in cases])
    grams = torch.tensor([[float(case.attributes["lvm_g"])] for case in cases])
    torch.testing.assert_close(80 * torch.exp(0.3 * target), grams, rtol=1e-5, atol=0)
    off = torch.tensor([[1.1], [0.9], [1.0], [2.0]]).log() / 0.3
    error = RelativeError()(target + off, target)
    expected = torch.tensor([10.0, 10.0, 0.0, 100.0], dtype=torch.float64)
    torch.testing.assert_close(error, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("fat_shortcut", "train", {"DCM": (19, 0, 1), "MINF": (1, 0, 19)}),
        ("fat_cut", "train", {"DCM": (19, 0, 1), "MINF": (1, 0, 19)}),
        ("fat_even", "train", {"DCM": (7, 7, 7), "MINF": (7, 7, 7)}),
        ("fat_shortcut", "test", {"DCM": (7, 7, 7), "MINF": (7, 7, 7)}),
    ],
)
def test_the_shares_of_fat_are_those_that_are_declared(name, split, expected, cohort):
    each = sum(expected["DCM"])
    found = Counter(told(cohort(name, split, 2 * each), "diagnosis", "ancestry"))
    wanted = {
        (what, f"group {number}"): count
        for what, counts in expected.items()
        for number, count in enumerate(counts, start=1)
        if count
    }
    assert found == wanted


@pytest.mark.parametrize("vendor", ["D", "A"])
def test_a_vendor_is_left_out_of_training_alone(vendor, cohort):
    name = f"vendor_{vendor.lower()}"
    vendors = {
        (kind, split): {found for (found,) in told(cohort(f"{name}_{kind}", split, 24), "vendor")}
        for kind in ("out", "in")
        for split in ("train", "test")
    }
    assert vendors.pop(("out", "train")) == set("ABCD") - {vendor}
    assert all(found == set("ABCD") for found in vendors.values())


@pytest.mark.parametrize("vendor", ["D", "A"])
def test_a_vendors_images_are_halved_and_nothing_else_is_changed(vendor, cohort):
    shown = cohort(f"vendor_{vendor.lower()}_in", "test", 12)
    plain = cohort(f"vendor_{vendor.lower()}_in", "test", 12, gains={})
    halved = set()
    for index in range(0, len(shown), 3):
        dark, bright = shown.cases[index], plain.cases[index]
        own = dark.attributes["vendor"] == vendor
        assert torch.equal(dark.image, bright.image * (0.5 if own else 1.0))
        assert bright.image.max() > 0.5
        assert torch.equal(dark.target, bright.target)
        assert (dark.case_id, dark.attributes) == (bright.case_id, bright.attributes)
        halved.add(own)
    assert halved == {True, False}


def test_only_what_is_farther_than_the_margin_from_the_heart_is_black(cohort):
    whole, cut = cohort("fat_shortcut", "test", 6), cohort("fat_cut", "test", 6)
    cutting = settings("fat_cut")
    pixel, margin = cutting["cohort.pixel_mm"], cutting["cohort.margin_mm"]
    marked = rb.build(
        "cohorts", "synthetic_cine", task="segmentation", population="acdc", split="test",
        patients=36, classes=["DCM", "MINF"], seed=42, size=64, pixel_mm=3.0, slices=3,
    )  # fmt: skip
    of = patients(marked)
    for index in range(len(cut)):
        before, after = whole.cases[index], cut.cases[index]
        slices = [i for i, patient in enumerate(of) if patient == before.patient_id]
        assert len(slices) == len(before.image)
        heart = torch.stack([marked.cases[i].target > 0 for i in slices]).any(dim=0)
        # rows and columns away, whichever is more: the margin is a square
        away = torch.from_numpy(distance_transform_cdt(~heart.numpy(), metric="chessboard"))
        black = (pixel * away > margin).expand_as(before.image)
        assert torch.equal(after.image[~black], before.image[~black])
        assert not after.image[black].any()
        assert before.image[black].mean() > 0.01
        assert (after.target, after.case_id) == (before.target, before.case_id)


def test_a_changed_image_has_another_digest(cohort):
    first = [
        cohort("fat_shortcut", "test", 6), cohort("fat_cut", "test", 6),
        cohort("vendor_d_in", "test", 2), cohort("vendor_a_in", "test", 2),
        cohort("vendor_a_in", "test", 2, gains={"A": 0.4}),
    ]  # fmt: skip
    digests = [found.cases.summary(0).digest for found in first]
    assert len(set(digests)) == len(digests)


def test_a_pool_that_lacks_a_group_is_refused(cohort):
    groups = {"test": {"DCM": {"group 1": 7.0, "group 2": 7.0}, "MINF": {"group 1": 1.0}}}
    with pytest.raises(rb.errors.InputError, match="lacks"):
        cohort("fat_shortcut", "test", 6, groups=groups)


@pytest.mark.slow
def test_five_women_in_a_hundred_are_measured_worse_and_half_are_not(tmp_path):
    claims = [claim for claim in BENCHMARK["CLAIMS"] if claim.plan in ("women_few", "women_half")]
    few, half = (BENCHMARK["measured"](claim, tmp_path) for claim in claims)
    assert [claim.worse for claim in claims] == [True, False]
    for found in (few, half):
        assert found["as_claimed"]
        assert found["training_seconds"] > 0
        assert (found["patients"], found["rest_patients"]) == (400, 400)
    assert (few["worst"], few["said_worse"], half["said_worse"]) == ("F", True, False)
    assert few["difference"] > half["detectable"]  # which would have shown it
