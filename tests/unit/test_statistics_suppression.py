"""Nothing is told of fewer than ten patients, nor of a run of fewer than twenty."""

import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from robustbench_med.statistics.gaps import gaps_of
from robustbench_med.statistics.search import search_of
from robustbench_med.statistics.study import findings_of, open_study
from robustbench_med.statistics.table import ESTIMATES, estimates_of

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables, row = FIXTURE["tables"], FIXTURE["row"]
NUMBERS = [f.name for f in ESTIMATES if f.type == pa.float64() and f.name != "level"]
METHODS = ["method", "difference_method", "change_method"]
REST = ["rest_value", "rest_patients", "p", "p_holm", "p_joint", "detectable",
        *(f"{name}{end}" for name in ("difference", "interaction")
          for end in ("", "_low", "_high")), "interaction_p", "interaction_p_holm"]  # fmt: skip
METRICS = {
    "correct": {},
    "psnr": {"tolerance": 29.0},
    "error": {"better": "zero", "patient": "sum", "tolerance": 4.0},
    "dice": {"patient": "dice", "tolerance": 0.7},
    "finding": {"reads": "detection", "threshold": 0.5},
}
PROBES = ("clean", "fgsm[b]", "pgd[b]", "gamma@2")


def a_run(sites, who=None, seed=0, subgroups=(("site",),), **attributes):
    """Every kind of metric, with the given site of each case."""
    rng = np.random.default_rng(seed)
    count = len(sites)
    truth = rng.integers(0, 2, count)
    values = {name: {} for name in METRICS}
    values |= {f"dice.{part}": {} for part in ("shared", "predicted", "true")}
    values["finding.true"] = dict.fromkeys(PROBES, truth)
    for probe in PROBES:
        values["correct"][probe] = rng.integers(0, 2, count)
        values["psnr"][probe] = rng.normal(30, 2, count)
        values["error"][probe] = rng.normal(0, 5, count)
        values["finding"][probe] = rng.beta(3, 2, count)
        shared, predicted, true = rng.integers([[20], [40], [40]], 60, size=(3, count))
        values["dice"][probe] = 2 * shared / (predicted + true)
        for part, counts in (("shared", shared), ("predicted", predicted), ("true", true)):
            values[f"dice.{part}"][probe] = counts
    return tables(
        values, METRICS, who=who, attributes={"site": np.array(sites, dtype=object), **attributes},
        subgroups=subgroups,
    )  # fmt: skip


def told(run, explore=()):
    """Estimates, gaps and searches of a run."""
    study = open_study(*run)
    findings = findings_of(study, run[3]["subgroups"])
    return estimates_of(study, findings), gaps_of(study, findings, 1), search_of(study, explore)


SITES = ["A"] * 60 + ["B"] * 40 + ["C"] * 9 + ["D"] + [None] * 12


@cache
def of_sites():
    return told(a_run(SITES), ["site"])


def test_no_number_is_told_of_a_small_group():
    estimates, gaps, found = of_sites()
    for site in "CD":
        rows = estimates[estimates["group"] == site]
        assert len(rows) == len(estimates[estimates["group"] == "all"])
        assert set(rows["status"]) <= {"suppressed", "undefined"}
        assert rows[NUMBERS].isna().all(axis=None)
        assert (rows[METHODS] == "").all(axis=None)
        assert rows["rest_patients"].isna().all()
        assert rows["reason"].ne("").all()
    shown = estimates[estimates["group"] == "A"]
    assert (shown["patients"] > 0).all()
    assert shown["value"].notna().all()
    assert shown.loc[shown["metric"] == "psnr", ["bound_low", "bound_high"]].notna().all(axis=None)
    assert set(gaps["worst"]) <= {"A", "B", "not recorded"}
    assert set(gaps["groups"]) == {2, 3}
    assert set(found["group"]) == {"A", "B"}


@pytest.mark.parametrize("many", [61, 101])
def test_no_number_is_told_of_a_small_rest(many):
    sites = ["A"] * many + ["B"] * 9
    estimates, gaps, found = told(a_run(sites), ["site"])
    rows = estimates[estimates["group"] == "A"]
    assert rows[REST].isna().all(axis=None)
    assert (rows["difference_method"] == "").all()
    assert (rows["status"] == "ok").any()
    assert rows["value"].notna().all()
    assert rows.loc[rows["probe"] == "pgd[b]", "change"].notna().all()
    assert gaps.empty
    assert found.empty


def test_the_values_of_a_small_group_move_nothing_that_leaves_it_out():
    run = a_run(SITES)
    records = run[0].copy()
    small = [f"c{k:05d}" for k in range(100, 110)]
    other = records["case_id"].isin(small) & ~records["metric"].str.contains(r"\.")
    records.loc[other, "value"] = 0.0
    before, after = of_sites(), told((records, *run[1:]))
    own = ["value", "low", "high", "change", "change_low", "change_high"]
    for site in "AB":
        one, two = (estimates[estimates["group"] == site] for estimates, _, _ in (before, after))
        np.testing.assert_allclose(one[own], two[own], rtol=1e-5, atol=1e-7)
    kept = ["range", "range_by_chance", "range_p", "worst_value", "worst_corrected", "worst_low",
            "worst_high", "spread"]  # fmt: skip
    np.testing.assert_allclose(before[1][kept], after[1][kept], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("patients", "hidden"), [(19, True), (20, False)])
def test_a_run_of_too_few_patients_is_suppressed_whole(patients, hidden):
    # Both phases hold every patient, so that groups and rest are as large as the run.
    who = np.repeat(np.arange(patients), 2)
    run = a_run(["A"] * len(who), who, phase=["ED", "ES"] * patients, subgroups=(("phase",),))
    estimates, gaps, found = told(run, ["phase"])
    assert set(estimates["group"]) == {"all", "ED", "ES"}
    plain = estimates[~estimates["metric"].str.startswith("finding")]
    if not hidden:
        assert plain["value"].notna().all()
        assert not gaps.empty
        return
    assert estimates[NUMBERS].isna().all(axis=None)
    assert (estimates[METHODS] == "").all(axis=None)
    assert estimates["rest_patients"].isna().all()
    assert set(estimates["status"]) == {"suppressed"}
    assert plain["reason"].eq("fewer than 20 patients in all: not shown").all()
    assert estimates["patients"].max() == patients
    assert gaps.empty
    assert found.empty


@pytest.mark.parametrize(("common", "told_of"), [(9, False), (10, True)])
def test_no_change_is_told_of_few_patients_with_both_values(common, told_of):
    clean, pgd = np.random.default_rng(1).normal(size=(2, 120))
    place = np.arange(120) % 60
    run = tables(
        {"psnr": {"clean": clean, "pgd[b]": pgd}},
        attributes={"site": np.repeat(["A", "B"], 60).astype(object)},
        failed={"clean": (place < 30 - common) & (np.arange(120) < 60), "pgd[b]": place >= 30},
        subgroups=[["site"]],
    )
    estimates, _, _ = told(run)
    hidden = ["interaction", "interaction_low", "interaction_high", "interaction_p",
              "interaction_p_holm"]  # fmt: skip
    for site in "AB":
        found = row(estimates, group=site, probe="pgd[b]")
        assert np.isfinite([found["value"], found["difference"]]).all()
        assert found[hidden].notna().all() == told_of
        assert found[hidden].isna().all() != told_of
    found = row(estimates, group="A", probe="pgd[b]")
    assert np.isfinite(found["change"]) == told_of
    assert (found["change_method"] != "") == told_of


def test_patients_without_the_class_do_not_lift_the_suppression_of_a_rate():
    truth = np.repeat([1, 0], [9, 91])
    given = np.random.default_rng(2).beta(3, 2, 100)
    run = tables(
        {"m": {"clean": given}, "m.true": {"clean": truth}},
        {"m": {"reads": "detection", "threshold": 0.5}},
    )
    estimates, _, _ = told(run)
    status = dict(zip(estimates["metric"], estimates["status"], strict=True))
    assert status["m"] == status["m.specificity"] == "ok"
    hidden = {"m.sensitivity", "m.auc", "m.calibration_intercept", "m.calibration_slope",
              "m.smooth_ece"}  # fmt: skip
    assert {status[name] for name in hidden} == {"suppressed"}
    assert estimates.loc[estimates["metric"].isin(hidden), NUMBERS].isna().all(axis=None)
