import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.proportions import wilson
from robustbench_med.statistics.table import ESTIMATES, estimate_run, status_of, to_arrow

METRICS = {
    "correct": {"better": "higher", "patient": "mean", "unit": ""},
    "dice": {"better": "higher", "patient": "dice", "unit": ""},
    "error": {"better": "zero", "patient": "sum", "unit": "ml"},
    "psnr": {"better": "higher", "patient": "mean", "unit": "dB"},
}
PROBES = [
    {"name": "clean", "kind": "clean", "level": 0.0, "component": "clean", "ball": None},
    {"name": "fgsm[b]", "kind": "attack", "level": 0.1, "component": "fgsm", "ball": "b"},
    {"name": "pgd[b]", "kind": "attack", "level": 0.1, "component": "pgd", "ball": "b"},
    {"name": "gamma@2", "kind": "shift", "level": 2.0, "component": "gamma", "ball": None},
    {"name": "crown[b]", "kind": "certificate", "level": 0.1, "component": "crown", "ball": "b"},
]
NO_FAILURES = pd.DataFrame(
    {name: pd.Series(dtype=str) for name in ("case_id", "probe", "kind", "error", "message")}
)


def failures(*rows):
    rows = [(case, probe, "attack", "CaseError", "no") for case, probe in rows]
    return pd.DataFrame(rows, columns=NO_FAILURES.columns)


def manifest(*subgroups, probes=PROBES, seed=7):
    return {
        "seed": seed,
        "metrics": METRICS,
        "probes": probes,
        "subgroups": [*map(list, subgroups)],
    }


def a_run(patients=60, per_patient=2, seed=0):
    """Records of every probe and metric for `patients` of two sexes and three sites."""
    rng = np.random.default_rng(seed)
    count = patients * per_patient
    who = np.repeat(np.arange(patients), per_patient)
    cases = pd.DataFrame(
        {
            "case_id": [f"c{k:04d}" for k in range(count)],
            "patient_id": [f"p{k:04d}" for k in who],
            "split": "test",
            "sex": np.array(["F", "M"], dtype=object)[who % 2],
            "site": np.array(["A", "B", None], dtype=object)[who % 3],
        }
    )
    tables = [_answers(cases, probe, rng) for probe in PROBES]
    return pd.concat(tables, ignore_index=True), cases


def _answers(cases, probe, rng):
    count = len(cases)
    shared, predicted, true = rng.integers([[20], [40], [40]], 60, size=(3, count))
    values = {
        "correct": rng.integers(0, 2, count), "psnr": rng.normal(30, 2, count),
        "error": rng.normal(0, 5, count), "dice": 2 * shared / (predicted + true),
        "dice.shared": shared, "dice.predicted": predicted, "dice.true": true,
    }  # fmt: skip
    if probe["kind"] == "certificate":
        values = {"certified": rng.integers(0, 2, count)}
    wide = pd.DataFrame(values).astype(float).assign(case_id=cases["case_id"])
    table = wide.melt("case_id", var_name="metric")
    return table.assign(probe=probe["name"], kind=probe["kind"], level=probe["level"])


def flat(values, patients=None, metric="correct", **attributes):
    """A clean probe with one value per case, and its cases."""
    count = len(values)
    ids = [f"c{k:04d}" for k in range(count)]
    patients = [f"p{k:04d}" for k in (patients if patients is not None else range(count))]
    cases = pd.DataFrame({"case_id": ids, "patient_id": patients, "split": "test", **attributes})
    records = pd.DataFrame(
        {"case_id": ids, "probe": "clean", "kind": "clean", "level": 0.0, "metric": metric,
         "value": np.array(values, dtype=float)}
    )  # fmt: skip
    return records, cases


def row(table, **wanted):
    chosen = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    assert chosen.sum() == 1, f"{chosen.sum()} rows have {wanted}"
    return table[chosen].iloc[0]


def clean_only(*subgroups):
    return manifest(*subgroups, probes=PROBES[:1])


def test_one_row_per_probe_metric_and_group_in_the_manifests_order():
    records, cases = a_run()
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"], ["site"], ["sex", "site"]))
    assert table.columns.tolist() == ESTIMATES.names
    names = ["clean", "fgsm[b]", "pgd[b]", "gamma@2", "crown[b]", "worst[b]"]
    assert table["probe"].unique().tolist() == names
    groups = ["all", "F", "M", "A", "B", "not recorded", "F \u00d7 A", "F \u00d7 B"]
    assert table["group"].unique().tolist()[:8] == groups
    counts = table.groupby("probe").size()
    # four metrics, and two limits of agreement of the one that is best near zero
    assert (counts.drop("crown[b]") == 6 * 12).all()
    assert counts["crown[b]"] == 12
    assert not table.duplicated(["probe", "metric", "subgroup", "group"]).any()


def test_the_table_survives_a_parquet_file(tmp_path):
    records, cases = a_run()
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"]))
    arrow = to_arrow(table)
    assert arrow.schema == ESTIMATES
    pq.write_table(arrow, tmp_path / "estimates.parquet")
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "estimates.parquet").to_pandas(), table)


def test_the_order_of_the_rows_does_not_matter():
    records, cases = a_run()
    failed = failures(("c0003", "pgd[b]"), ("c0007", "fgsm[b]"))
    plan = manifest(["sex"], ["site"])
    table = estimate_run(records, cases, failed, plan)
    shuffled = estimate_run(
        records.sample(frac=1, random_state=1), cases.sample(frac=1, random_state=2),
        failed.iloc[::-1], plan,
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)


def test_the_same_seed_gives_the_same_table_and_another_seed_moves_bootstraps_only():
    records, cases = a_run()
    first = estimate_run(records, cases, NO_FAILURES, manifest(["sex"]))
    again = estimate_run(records, cases, NO_FAILURES, manifest(["sex"]))
    other = estimate_run(records, cases, NO_FAILURES, manifest(["sex"], seed=8))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    moved = (first["low"] != other["low"]).to_numpy()
    assert (moved == first["method"].str.contains("bootstrap").to_numpy()).all()
    for name, method in (("difference", "difference_method"), ("change", "change_method")):
        low = f"{name}_low"
        moved = (first[low].fillna(0) != other[low].fillna(0)).to_numpy()
        assert (moved == first[method].str.contains("bootstrap").to_numpy()).all()
    for name in ("value", "difference", "change", "interaction"):
        np.testing.assert_array_equal(first[name], other[name])


def test_a_share_is_counted_by_hand():
    records, cases = flat([1] * 45 + [0] * 15, sex=["F"] * 40 + ["M"] * 20)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    overall = row(table, group="all")
    assert (overall["value"], overall["method"], overall["status"]) == (0.75, "Wilson", "ok")
    assert (overall["low"], overall["high"]) == wilson(45, 60)
    assert np.isnan(overall["difference"])
    women = row(table, group="F")
    assert (women["value"], women["rest_value"], women["rest_patients"]) == (1.0, 0.25, 20)
    assert women["difference"] == 0.75
    assert women["difference_method"] == "Newcombe"


def test_patient_dice_and_sums_by_hand():
    shared = [30, 10, 5, 9] * 10
    predicted, true = [40, 20, 20, 10] * 10, [50, 10, 5, 12] * 10
    patients = np.repeat(np.arange(20), 2)
    parts = {"dice": np.nan, "dice.shared": shared, "dice.predicted": predicted, "dice.true": true}
    tables = [flat(np.broadcast_to(v, 40), patients, m)[0] for m, v in parts.items()]
    errors, cases = flat(np.arange(40), patients, "error")
    table = estimate_run(pd.concat([*tables, errors]), cases, NO_FAILURES, clean_only())
    by_patient = [np.reshape(part, (20, 2)).sum(axis=1) for part in (shared, predicted, true)]
    dice = 2 * by_patient[0] / (by_patient[1] + by_patient[2])
    assert row(table, metric="dice")["value"] == pytest.approx(dice.mean())
    assert row(table, metric="dice")["patients"] == 20
    assert row(table, metric="error")["value"] == np.arange(40).sum() / 20


@pytest.mark.parametrize(
    ("patients", "status"),
    [(1, "suppressed"), (9, "suppressed"), (10, "not gated"), (29, "not gated"), (30, "ok")],
)
def test_few_patients_are_suppressed_or_shown_without_being_gated(patients, status):
    values = np.arange(patients) % 2
    sexes = ["F"] * patients + ["M"] * 40
    records, cases = flat([*values, *[1, 0] * 20], sex=sexes)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    found = row(table, group="F")
    assert (found["status"], found["patients"]) == (status, patients)
    hidden = ["value", "low", "high", "rest_value", "rest_patients", "difference",
              "difference_low", "difference_high", "p", "p_holm", "p_joint",
              "detectable"]  # fmt: skip
    assert found[hidden].isna().all() == (status == "suppressed")
    assert found[hidden].notna().all() == (status != "suppressed")


def test_a_small_complement_is_not_told_by_the_group_it_completes():
    records, cases = flat([1, 0] * 25, sex=["F"] * 9 + ["M"] * 41)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    rest = ["rest_value", "rest_patients", "difference", "difference_low", "difference_high",
            "p", "p_holm", "p_joint", "detectable"]  # fmt: skip
    assert row(table, group="M")[rest].isna().all()
    assert row(table, group="M")["status"] == "ok"


@pytest.mark.parametrize("small", ["F", "M"])
def test_patients_without_a_defined_value_do_not_lift_suppression(small):
    sexes = np.repeat(["F", "M"], 20)
    values = np.tile([1.0, 0.0], 20)
    values[np.flatnonzero(sexes == small)[9:]] = np.nan
    records, cases = flat(values, sex=sexes)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    assert row(table, group=small)["status"] == "suppressed"
    for group in "FM":
        found = row(table, group=group)
        assert found[["rest_value", "rest_patients", "difference", "difference_low"]].isna().all()


def test_fewer_than_ten_patients_overall_are_suppressed_too():
    records, cases = flat([0, 1] * 20, np.repeat(np.arange(8), 5))
    found = estimate_run(records, cases, NO_FAILURES, clean_only()).iloc[0]
    assert (found["status"], found["patients"], found["cases"]) == ("suppressed", 8, 40)
    assert found["reason"] == "fewer than 10 patients: not shown"
    assert np.isnan(found["value"])


def test_patients_are_counted_not_cases():
    records, cases = flat(np.arange(80) / 80, np.repeat(np.arange(20), 4), "psnr")
    found = estimate_run(records, cases, NO_FAILURES, clean_only()).iloc[0]
    assert (found["status"], found["patients"], found["cases"]) == ("not gated", 20, 80)


def test_undefined_and_failed_cases_are_counted_apart():
    records, cases = flat([np.nan] * 5 + [1.0, 2.0] * 20, metric="psnr")
    failed = failures(("c0000", "clean"), ("c0001", "clean"))
    found = estimate_run(records, cases, failed, clean_only()).iloc[0]
    assert (found["cases"], found["undefined"], found["failed"]) == (40, 3, 2)
    assert (found["patients"], found["value"]) == (40, 1.5)


def test_nothing_defined_is_undefined():
    records, cases = flat([np.nan] * 20, metric="psnr")
    found = estimate_run(records, cases, NO_FAILURES, clean_only()).iloc[0]
    assert (found["status"], found["patients"], found["undefined"]) == ("undefined", 0, 20)


def test_a_probe_that_failed_everywhere_still_has_rows():
    records, cases = flat([1, 0] * 10)
    failed = failures(*[(case, "pgd[b]") for case in cases["case_id"]])
    plan = manifest(probes=[PROBES[0], PROBES[2]])
    table = estimate_run(records, cases, failed, plan)
    for name in ("pgd[b]", "worst[b]"):
        found = row(table, probe=name, metric="correct")
        assert (found["status"], found["failed"], found["undefined"]) == ("undefined", 20, 0)


def test_equal_values_get_no_interval():
    records, cases = flat([31.5] * 40, metric="psnr", sex=["F", "M"] * 20)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    assert (table["status"] == "no interval").all()
    assert table["reason"].str.startswith("no interval: too few patients differ").all()
    assert (table["value"] == 31.5).all()
    assert table["low"].isna().all()
    assert row(table, group="F")["difference"] == 0
    assert np.isnan(row(table, group="F")["difference_low"])


def test_the_worst_case_is_at_most_as_good_as_every_attack_and_clean():
    records, cases = a_run()
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"]))
    wide = table[table["metric"] == "psnr"].pivot_table("value", "group", "probe")
    for name in ("clean", "fgsm[b]", "pgd[b]"):
        assert (wide["worst[b]"] <= wide[name]).all()
    psnr = records[records["metric"] == "psnr"]
    within = psnr[psnr["probe"].isin(["clean", "fgsm[b]", "pgd[b]"])]
    expected = within.groupby("case_id")["value"].min().mean()
    assert wide.loc["all", "worst[b]"] == pytest.approx(expected)


def test_a_failed_attack_is_skipped_in_the_worst_case_and_counted():
    records, cases = a_run()
    gone = (records["probe"] == "pgd[b]") & (records["case_id"] == "c0000")
    table = estimate_run(records[~gone], cases, failures(("c0000", "pgd[b]")), manifest())
    found = row(table, probe="worst[b]", metric="psnr")
    assert (found["failed"], found["cases"], found["kind"]) == (1, 120, "worst")
    assert found["level"] == 0.1


def test_the_worst_case_covers_only_what_was_attacked():
    records, cases = a_run()
    attacked = set(cases["case_id"][:50])
    kept = (records["kind"] != "attack") | records["case_id"].isin(attacked)
    table = estimate_run(records[kept], cases, NO_FAILURES, manifest())
    assert row(table, probe="worst[b]", metric="psnr")["cases"] == 50
    assert row(table, probe="clean", metric="psnr")["cases"] == 120


def test_two_halves_of_a_cohort_mirror_each_other():
    records, cases = a_run()
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"]))
    women, men = (table[table["group"] == group].reset_index() for group in "FM")
    assert women["value"].tolist() == men["rest_value"].tolist()
    np.testing.assert_allclose(women["difference"], -men["difference"])
    # resampled limits come from single precision draws
    np.testing.assert_allclose(women["difference_low"], -men["difference_high"], rtol=1e-5)
    for name in ("p", "p_holm", "p_joint", "detectable", "interaction_p", "interaction_p_holm"):
        np.testing.assert_allclose(women[name], men[name], rtol=1e-5)
    np.testing.assert_allclose(women["interaction"], -men["interaction"], atol=1e-12)


def test_missing_attributes_make_a_group_and_belong_to_the_rest_of_others():
    records, cases = flat([1] * 30 + [0] * 30, sex=["F"] * 20 + [None] * 20 + ["M"] * 20)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["sex"]))
    assert row(table, group="not recorded")["value"] == 0.5
    assert row(table, group="F")["rest_patients"] == 40


def test_a_patient_whose_cases_differ_counts_in_both_groups():
    patients = np.repeat(np.arange(20), 2)
    records, cases = flat([1, 0] * 20, patients, phase=["ED", "ES"] * 20)
    table = estimate_run(records, cases, NO_FAILURES, clean_only(["phase"]))
    assert row(table, group="ED")[["value", "patients"]].tolist() == [1.0, 20]
    assert row(table, group="ES")[["value", "patients"]].tolist() == [0.0, 20]


def test_an_unknown_subgroup_is_refused_with_a_suggestion():
    records, cases = a_run()
    with pytest.raises(InputError, match=r"no attribute 'sx' in the cases; did you mean 'sex'\?"):
        estimate_run(records, cases, NO_FAILURES, manifest(["sx"]))


def test_a_run_without_answers_gives_an_empty_table():
    records, cases = a_run()
    table = estimate_run(records.iloc[:0], cases, NO_FAILURES, manifest(["sex"]))
    assert table.columns.tolist() == ESTIMATES.names
    assert table.empty


def test_values_and_their_reasons_go_together():
    for value, low, deciding, in_all, expected in [
        (0.5, 0.4, 30, 60, "ok"),
        (0.5, 0.4, 29, 60, "not gated"),
        (0.5, np.nan, 29, 60, "no interval"),
        (0.5, 0.4, 9, 60, "suppressed"),
        (0.5, 0.4, 19, 19, "suppressed"),
        (np.nan, np.nan, 9, 60, "suppressed"),
        (np.nan, np.nan, 0, 60, "undefined"),
        (np.nan, np.nan, 40, 60, "undefined"),
    ]:
        status, reason = status_of(value, low, deciding, in_all)
        assert status == expected
        assert (reason == "") == (status == "ok")


def test_p_values_and_intervals_agree_in_every_row():
    records, cases = a_run()
    worse = (records["metric"] == "psnr") & records["case_id"].isin(
        cases.loc[cases["site"] == "A", "case_id"]
    )
    records.loc[worse, "value"] -= 1.0
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"], ["site"]))
    for name, p in (("difference", "p"), ("interaction", "interaction_p")):
        told = table[table[p].notna()]
        apart = (told[f"{name}_low"] > 0) | (told[f"{name}_high"] < 0)
        assert ((told[p] < 0.05) == apart).all()
        assert (told[f"{p}_holm"] >= told[p]).all()
        assert len(told) > 50
    assert (table["p"] < 0.05).any()
    for p in ("p", "p_holm", "p_joint", "interaction_p", "interaction_p_holm"):
        assert table[p].dropna().between(0, 1).all()


def test_the_detectable_gap_is_that_of_the_corrected_test_with_power_four_in_five():
    records, cases = a_run()
    table = estimate_run(records, cases, NO_FAILURES, manifest(["sex"], ["site"]))
    shown = table[table["detectable"].notna()]
    # F and M are one test, the three sites three
    reach = stats.norm.ppf(1 - 0.025 / 4) + stats.norm.ppf(0.8)
    error = (shown["difference_high"] - shown["difference_low"]) / (2 * stats.norm.ppf(0.975))
    assert len(shown) > 100
    np.testing.assert_allclose(shown["detectable"], reach * error, rtol=1e-10)


def test_copies_of_every_case_change_no_number_but_their_count():
    records, cases = a_run()
    failed = failures(("c0003", "pgd[b]"), ("c0007", "fgsm[b]"))
    plan = manifest(["sex"], ["site"])
    again = {name: table.assign(case_id=table["case_id"] + "x")
             for name, table in (("r", records), ("c", cases), ("f", failed))}  # fmt: skip
    once = estimate_run(records, cases, failed, plan)
    twice = estimate_run(
        pd.concat([records, again["r"]]), pd.concat([cases, again["c"]]),
        pd.concat([failed, again["f"]]), plan,
    )  # fmt: skip
    # sums count a copied case again, and Dice adds its voxels on both sides
    kept = ~once["metric"].str.startswith("error").to_numpy()
    for count in ("cases", "undefined", "failed"):
        assert (twice[count] == 2 * once[count]).all()
    assert twice["patients"].equals(once["patients"])
    numbers = [field.name for field in ESTIMATES if field.type == pa.float64()]
    np.testing.assert_allclose(twice.loc[kept, numbers], once.loc[kept, numbers],
                               rtol=1e-3, atol=1e-6)  # fmt: skip


def test_categoricals_give_the_same_table_as_strings():
    records, cases = a_run()
    failed = failures(("c0003", "pgd[b]"), ("c0007", "fgsm[b]"))
    plan = manifest(["sex"], ["site"])
    coded = records.astype(dict.fromkeys(("case_id", "probe", "kind", "metric"), "category"))
    plain = estimate_run(records, cases, failed, plan)
    pd.testing.assert_frame_equal(plain, estimate_run(coded, cases, failed, plan), check_exact=True)
    people = cases.astype(dict.fromkeys(("case_id", "patient_id", "sex", "site"), "category"))
    broken = failed.astype({"case_id": "category", "probe": "category"})
    pd.testing.assert_frame_equal(
        plain, estimate_run(coded, people, broken, plan), check_exact=True
    )


def test_penalised_values_count_and_are_counted():
    records, cases = flat(np.arange(40) / 10, metric="psnr", sex=["F", "M"] * 20)
    flags = records.assign(metric="psnr.penalised", value=[1.0] * 6 + [0.0] * 34)
    table = estimate_run(pd.concat([records, flags]), cases, NO_FAILURES, clean_only(["sex"]))
    assert table["metric"].unique().tolist() == ["psnr"]
    assert table["penalised"].tolist() == [6, 3, 3]
    assert row(table, group="all")["value"] == pytest.approx(1.95)
    assert row(table, group="all")["cases"] == 40


def test_what_a_plan_declares_is_read_off_the_records():
    rng = np.random.default_rng(0)
    truth, given = rng.integers(0, 2, 60), rng.beta(4, 2, 60)
    finding, cases = flat(given, metric="finding", sex=["F", "M"] * 30)
    said = finding.assign(metric="finding.true", value=truth.astype(float))
    psnr = finding.assign(metric="psnr", value=rng.normal(30, 2, 60))
    plan = clean_only(["sex"])
    plan["metrics"] = {
        "finding": {"better": "higher", "reads": "detection", "threshold": 0.5, "limits": [0, 1]},
        "psnr": {"better": "higher", "tolerance": 29.0},
    }
    table = estimate_run(pd.concat([finding, said, psnr]), cases, NO_FAILURES, plan)
    everyone = table[table["group"] == "all"].set_index("metric")
    assert everyone.loc["psnr.failure", "value"] == pytest.approx((psnr["value"] < 29).mean())
    assert everyone.loc["psnr.failure", "method"] == "Wilson"
    ill = given[truth == 1] >= 0.5
    assert everyone.loc["finding.sensitivity", "value"] == pytest.approx(ill.mean())
    low, high = everyone.loc["finding.sensitivity", ["low", "high"]]
    assert (low, high) == wilson(ill.sum(), len(ill))
    assert everyone.loc["finding.auc", "method"] == "Obuchowski, logit"
    assert (everyone["better"] == "one").sum() == 2
    assert everyone.loc["finding.sensitivity", "undefined"] == 0


def test_statistics_never_load_torch():
    code = (
        "import sys, pkgutil, importlib, robustbench_med.statistics as s\n"
        "for found in pkgutil.iter_modules(s.__path__):\n"
        "    importlib.import_module(f'{s.__name__}.{found.name}')\n"
        "assert 'robustbench_med.statistics.table' in sys.modules\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
