import runpy
from pathlib import Path

import numpy as np
import pytest

from robustbench_med.statistics.changes import changes
from robustbench_med.statistics.groups import find
from robustbench_med.statistics.samples import sample
from robustbench_med.statistics.slices import EVERYONE, Slice
from robustbench_med.statistics.study import open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables = FIXTURE["tables"]
NAN = np.nan


def changes_of(run, chosen=None):
    """Changes of the chosen cases, by metric and probe: value and error."""
    study = open_study(*run)
    chosen = np.ones(len(study.cases), dtype=bool) if chosen is None else chosen
    own = sample(study.readings, study.drawn, chosen)
    found, replicates = changes(study.readings, own, study.drawn, chosen)
    assert replicates.shift.shape == (2000, len(study.columns))
    names = [(reading.metric, probe.name) for reading, probe in study.columns]
    return {
        name: (found.values[place], found.error[place], found.patients[place])
        for place, name in enumerate(names)
    }


def paired(second, first):
    """Mean of the differences, its standard error, and how many."""
    off = np.asarray(second) - np.asarray(first)
    return pytest.approx((off.mean(), off.std(ddof=1) / np.sqrt(len(off)), len(off)))


def test_the_change_of_a_mean_is_the_mean_of_paired_differences():
    rng = np.random.default_rng(0)
    clean = rng.normal(30, 5, 40)
    pgd = clean - rng.gamma(2, size=40)
    found = changes_of(tables({"psnr": {"clean": clean, "pgd[b]": pgd, "gamma@2": clean}}))
    assert found["psnr", "pgd[b]"] == paired(pgd, clean)
    assert found["psnr", "worst[b]"] == paired(np.minimum(pgd, clean), clean)
    assert found["psnr", "gamma@2"] == (0, 0, 40)
    assert np.isnan(found["psnr", "clean"][0])


def test_pairing_makes_small_changes_visible():
    rng = np.random.default_rng(1)
    clean = rng.normal(30, 5, 60)
    run = tables({"psnr": {"clean": clean, "gamma@2": clean - 0.2 + rng.normal(0, 0.1, 60)}})
    study = open_study(*run)
    everyone = find(study.readings, study.drawn, EVERYONE, EVERYONE.mask(study.cases))
    change = everyone.changes[1]
    assert change.value == pytest.approx(-0.2, abs=0.05)
    assert change.high < -0.15
    assert change.p < 0.001
    assert everyone.estimates[1].high - everyone.estimates[1].low > 2


def test_several_cases_of_a_patient_are_changed_together():
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(20), [1, 3] * 10)
    clean, shifted = rng.normal(size=(2, 40))
    found = changes_of(tables({"psnr": {"clean": clean, "gamma@2": shifted}}, who=who))
    off = shifted - clean
    influence = np.bincount(who, off - off.mean()) / 40
    value, error, patients = found["psnr", "gamma@2"]
    assert value == pytest.approx(off.mean())
    assert error == pytest.approx(np.sqrt(20 / 19 * np.square(influence).sum()))
    assert patients == 20


def test_a_probe_put_to_fewer_cases_is_compared_on_those():
    rng = np.random.default_rng(3)
    clean, pgd = rng.normal(size=(2, 50))
    put = np.arange(50) % 3 == 0
    run = tables({"psnr": {"clean": clean, "pgd[b]": pgd}}, asked={"pgd[b]": put})
    assert changes_of(run)["psnr", "pgd[b]"] == paired(pgd[put], clean[put])


def test_cases_that_failed_under_either_are_left_out():
    rng = np.random.default_rng(4)
    clean, shifted = rng.normal(size=(2, 50))
    failed = {"clean": np.arange(50) < 5, "gamma@2": np.arange(50) % 10 == 0}
    good = ~(failed["clean"] | failed["gamma@2"])
    run = tables({"psnr": {"clean": clean, "gamma@2": shifted}}, failed=failed)
    assert changes_of(run)["psnr", "gamma@2"] == paired(shifted[good], clean[good])


def test_sums_of_a_patient_are_compared_over_the_same_cases():
    clean = np.array([1.0, 2, 3, 4, 5, 6])
    pgd = np.array([2.0, 5, 9, 9, 9, 10])
    put = np.array([True, True, True, False, True, False])
    run = tables(
        {"error": {"clean": clean, "gamma@2": pgd}},
        {"error": {"better": "zero", "patient": "sum"}},
        who=[0, 0, 1, 1, 2, 3], asked={"gamma@2": put},
    )  # fmt: skip
    # 7 - 3, 9 - 3 (the second case of patient 1 was not shifted), 9 - 5; patient 3 has none
    assert changes_of(run)["error", "gamma@2"] == paired([7, 9, 9], [3, 3, 5])


def test_dice_of_a_patient_is_compared_over_the_same_cases():
    rng = np.random.default_rng(5)
    who, put = np.repeat(np.arange(12), 3), np.arange(36) % 4 != 0
    probes = ("clean", "gamma@2")
    parts = {
        f"dice.{part}": {name: rng.integers(low, low + 20, 36) for name in probes}
        for part, low in (("shared", 10), ("predicted", 30), ("true", 30))
    }
    single = {
        name: 2 * parts["dice.shared"][name] / (parts["dice.predicted"][name] + 30)
        for name in probes
    }
    metrics = {"dice": {"better": "higher", "patient": "dice"}}
    run = tables({"dice": single, **parts}, metrics, who=who, asked={"gamma@2": put})

    def dice(name):
        totals = {part: np.bincount(who[put], parts[f"dice.{part}"][name][put])
                  for part in ("shared", "predicted", "true")}  # fmt: skip
        return 2 * totals["shared"] / (totals["predicted"] + totals["true"])

    assert changes_of(run)["dice", "gamma@2"] == paired(dice("gamma@2"), dice("clean"))


@pytest.mark.parametrize("better", ["lower", "zero"])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_the_worst_case_of_a_patient_is_no_better_than_an_attack_on_the_same_cases(better, every):
    rng = np.random.default_rng(6)
    who, put = np.repeat(np.arange(20), 3), np.arange(60) % every == 0
    values = {"clean": rng.normal(size=60)}
    values |= {name: values["clean"] + rng.normal(0, 2, 60) for name in ("fgsm[b]", "pgd[b]")}
    run = tables(
        {"error": values}, {"error": {"better": better, "patient": "sum"}},
        who=who, asked={"fgsm[b]": put, "pgd[b]": put},
    )  # fmt: skip
    bad = {"lower": lambda v: v, "zero": np.abs}[better]
    each = np.stack(list(values.values()))
    by_case = each[bad(each).argmax(axis=0), np.arange(60)]
    held = np.unique(who[put])
    sums = np.stack([np.bincount(who[put], v[put])[held] for v in (by_case, *each)])
    worst = sums[bad(sums).argmax(axis=0), np.arange(len(held))]
    assert changes_of(run)["error", "worst[b]"] == paired(worst, sums[1])


def test_shares_change_by_the_patients_who_switch():
    clean = np.repeat([1.0, 1, 0, 0], [20, 12, 3, 15])
    pgd = np.repeat([1.0, 0, 1, 0], [20, 12, 3, 15])
    found = changes_of(tables({"correct": {"clean": clean, "gamma@2": pgd}}))
    assert found["correct", "gamma@2"] == paired(pgd, clean)


def test_proofs_and_runs_without_clean_have_no_change():
    rng = np.random.default_rng(7)
    some = rng.normal(size=(2, 20))
    run = tables({"psnr": {"clean": some[0]}, "certified": {"crown[b]": some[1] > 0}})
    assert np.isnan(changes_of(run)["certified", "crown[b]"][0])
    unpaired = tables({"psnr": {"gamma@1": some[0], "gamma@2": some[1]}})
    assert np.isnan([value for value, _, _ in changes_of(unpaired).values()]).all()


def test_probes_without_a_common_case_have_no_change():
    half = np.arange(30) < 15
    values = np.random.default_rng(8).normal(size=(2, 30))
    run = tables(
        {"psnr": {"clean": values[0], "gamma@2": values[1]}},
        asked={"clean": half, "gamma@2": ~half},
    )
    value, _, patients = changes_of(run)["psnr", "gamma@2"]
    assert np.isnan(value)
    assert patients == 0


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_figures_of_detection_change_on_the_same_cases(share):
    rng = np.random.default_rng(9)
    truth = rng.integers(0, 2, 90)
    given = rng.beta(3, 2, (2, 90))
    put = rng.random(90) < share
    finding = {"reads": "detection", "threshold": 0.5, "better": "higher"}
    run = tables(
        {"m": {"clean": given[0], "gamma@2": given[1]},
         "m.true": {"clean": truth, "gamma@2": truth}},
        {"m": finding}, who=np.repeat(np.arange(30), 3), asked={"gamma@2": put},
    )  # fmt: skip
    only = tables(
        {"m": {"clean": given[0][put], "gamma@2": given[1][put]},
         "m.true": {"clean": truth[put], "gamma@2": truth[put]}},
        {"m": finding}, who=np.repeat(np.arange(30), 3)[put],
    )  # fmt: skip
    found = changes_of(run)
    study = open_study(*only)
    values = sample(study.readings, study.drawn, np.ones(put.sum(), dtype=bool)).portion.values
    names = [(reading.metric, probe.name) for reading, probe in study.columns]
    by_name = dict(zip(names, values, strict=True))
    for metric in ("m", "m.auc", "m.sensitivity", "m.specificity", "m.ppv", "m.calibration_slope"):
        expected = by_name[metric, "gamma@2"] - by_name[metric, "clean"]
        assert found[metric, "gamma@2"][0] == pytest.approx(expected), metric


def test_the_change_in_a_group_is_that_of_its_cases_alone():
    rng = np.random.default_rng(10)
    clean, shifted = rng.normal(size=(2, 60))
    women = np.arange(60) % 2 == 0
    run = tables(
        {"psnr": {"clean": clean, "gamma@2": shifted}},
        attributes={"sex": np.where(women, "F", "M").astype(object)},
    )
    assert changes_of(run, women)["psnr", "gamma@2"] == paired(shifted[women], clean[women])
    study = open_study(*run)
    found = find(study.readings, study.drawn, Slice(("sex",), ("F",)), women)
    off = shifted - clean
    interaction = found.interactions[1]
    assert interaction.value == pytest.approx(off[women].mean() - off[~women].mean())
    error = np.hypot(*(off[side].std(ddof=1) / np.sqrt(30) for side in (women, ~women)))
    assert interaction.error == pytest.approx(error, rel=0.1)
