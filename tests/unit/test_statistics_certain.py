"""What is certain of patients: against sums by hand, and every label map that proofs allow."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robustbench_med.clinical import ejection_fraction, measure, volume_limits
from robustbench_med.statistics.bootstrap import draw_patients, generator
from robustbench_med.statistics.certain import (
    UNANSWERED,
    UNASKED,
    UNPAIRED,
    UNSIZED,
    certain_measures,
)
from robustbench_med.statistics.median import median_estimate

BALL = "linf<=0.01"
PROOF = f"crown[{BALL}]"
SPACING = (10.0, 2.0, 2.0)
VOXEL_ML = 0.04
PROBES = [
    {"name": PROOF, "kind": "certificate", "ball": BALL},
    *({"name": f"{name}[{ball}]", "kind": "attack", "ball": ball}
      for name, ball in (("pgd", BALL), ("fgsm", BALL), ("pgd", "linf<=0.02"))),
]  # fmt: skip
MANIFEST = {
    "task": {"kind": "segmentation", "classes": ["background", "lv", "myo", "rv"]},
    "probes": PROBES,
    "metrics": {f"dice_{name}": {"patient": "dice", "label": name} for name in ("lv", "myo", "rv")},
}


def certified(case, pairs, answers, voxel=VOXEL_ML):
    """Records of a certificate of one slice."""
    found = {f"least.{k}": low for k, (low, _) in enumerate(pairs)}
    found |= {f"most.{k}": high for k, (_, high) in enumerate(pairs)}
    found |= {f"answer.{k}": n for k, n in enumerate(answers)}
    found |= {"certified": 0.5, "voxel_ml": voxel}
    return [(case, PROOF, "certificate", metric, float(value)) for metric, value in found.items()]


def predicted(case, attack, name, count):
    return (case, attack, "attack", f"dice_{name}.predicted", float(count))


def as_tables(rows, slices):
    records = pd.DataFrame(rows, columns=["case_id", "probe", "kind", "metric", "value"])
    return records, pd.DataFrame(slices)


def case(patient, phase, z, **more):
    name = f"{patient}-{phase}-{z}"
    return {"case_id": name, "patient_id": patient, "phase": phase, "z": z, **more}


def heart(patient="p", **more):
    """Three slices at each phase; LV 100 +- 10 at ED, 40 +- 5 at ES, myo 50 +- 2, rv 60 +- 0."""
    slices = [case(patient, phase, z, **more) for phase in ("ED", "ES") for z in (3, 4, 5)]
    rows = []
    for one in slices:
        lv, by = (100, 10) if one["phase"] == "ED" else (40, 5)
        pairs = [(0, 400), (lv - by, lv + by), (48, 52), (60, 60)]
        rows += certified(one["case_id"], pairs, (200, lv, 50, 60))
    return rows, slices


def only(rows, slices, manifest=MANIFEST):
    (found,) = certain_measures(*as_tables(rows, slices), manifest, PROOF)
    return found


def test_limits_are_those_added_up_by_hand():
    found = only(*heart())
    # ED 270 to 330 voxels, ES 105 to 135: smallest 100 (270 - 135) / 270, largest 100 225 / 330.
    assert found.limits["lvef"] == pytest.approx((50.0, 100 * 225 / 330))
    assert found.limits["lvm"] == pytest.approx((144 * 0.04 * 1.05, 156 * 0.04 * 1.05))
    assert found.limits["rvef"] == (0.0, 0.0)
    assert found.clean == pytest.approx({"lvef": 60.0, "lvm": 150 * 0.04 * 1.05, "rvef": 0.0})
    assert (found.reached, found.diagnoses, found.outside) == ({}, None, 0)


def test_limits_are_the_extremes_over_every_label_map_that_the_proofs_allow():
    rng = np.random.default_rng(4)
    for _ in range(6):
        codes = rng.choice([1, 2, 4, 8, 3, 6, 10], (2, 3, 2), p=[0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
        codes[0, 0] = [2, 8]  # both ventricles are surely there at end-diastole
        can = (codes[..., None] >> np.arange(4)) % 2 == 1
        maps = itertools.product(*(np.flatnonzero(one) for one in can.reshape(-1, 4)))
        seen = [measure(np.array(one).reshape(2, 3, 1, 2), SPACING) for one in maps]
        rows, slices = [], []
        for phase, z in itertools.product(range(2), range(3)):
            sets = can[phase, z]
            slices.append(case("p", ("ED", "ES")[phase], z))
            answer = np.bincount(sets.argmax(axis=1), minlength=4)
            rows += certified(slices[-1]["case_id"], volume_limits(sets.T), answer)
        found = only(rows, slices)
        assert set(found.limits) == {"lvef", "lvm", "rvef"}
        for name, (low, high) in found.limits.items():
            values = [getattr(one, name) for one in seen]
            assert (min(values), max(values)) == pytest.approx((low, high)), name
            assert low <= found.clean[name] <= high


def test_what_attacks_reached_is_the_extreme_over_every_choice_of_attack_by_slice():
    rows, slices = heart()
    tried = {}
    rng = np.random.default_rng(0)
    for one in slices:
        middle = 100 if one["phase"] == "ED" else 40
        counts = {PROBES[k]["name"]: middle + int(rng.integers(-5, 6)) for k in (1, 2)}
        tried[one["case_id"]] = [middle, *counts.values()]
        rows += [predicted(one["case_id"], attack, "lv", n) for attack, n in counts.items()]
        rows.append(predicted(one["case_id"], PROBES[3]["name"], "lv", 0))  # of another ball
    chosen = itertools.product(*(tried[one["case_id"]] for one in slices))
    values = [ejection_fraction(sum(each[:3]), sum(each[3:])) for each in chosen]
    found = only(rows, slices)
    assert found.reached == {"lvef": pytest.approx((min(values), max(values)))}
    assert found.limits["lvef"][0] < min(values) < max(values) < found.limits["lvef"][1]
    assert found.outside == 0
    rows = [row for row in rows if row[1] == PROOF or row[0] != slices[0]["case_id"]]
    assert only(rows, slices).reached == {}


def test_a_count_under_attack_that_the_proof_excludes_is_counted():
    rows, slices = heart()
    for one, count in zip(slices, (111, 90, 100, 46, 45, 35), strict=True):
        rows.append(predicted(one["case_id"], PROBES[1]["name"], "lv", count))
    assert only(rows, slices).outside == 2


def without(metric):
    def change(rows, slices):
        last = slices[-1]["case_id"]
        return [row for row in rows if row[0] != last or not row[3].startswith(metric)], slices

    return change


def failed(rows, slices):
    last = slices[-1]["case_id"]
    kept = [row for row in rows if row[0] != last]
    return [*kept, (last, PROOF, "certificate", "certified", math.nan)], slices


def resized(rows, slices):
    last = slices[-1]["case_id"]
    return [(*row[:4], 0.05) if row[0] == last and row[3] == "voxel_ml" else row
            for row in rows], slices  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (failed, UNANSWERED), (without(""), UNASKED), (without("voxel_ml"), UNSIZED),
        (resized, UNSIZED), (lambda rows, slices: (rows, slices[:-1]), UNPAIRED),
        (lambda rows, slices: (rows, slices[:3]), UNPAIRED),
        (lambda rows, slices: (rows, [*slices[:-1], {**slices[-1], "z": 9}]), UNPAIRED),
    ],
)  # fmt: skip
def test_a_patient_without_a_proof_of_every_slice_has_no_limits_and_a_reason(change, reason):
    rows, slices = change(*heart("bad"))
    more, others = heart("good")
    records, cases = as_tables([*rows, *more], [*slices, *others])
    bad, good = certain_measures(records, cases, MANIFEST, PROOF)
    assert (bad.patient_id, bad.left_out, bad.limits) == ("bad", reason, None)
    assert (good.left_out, good.limits["lvef"][0]) == ("", pytest.approx(50.0))


def test_a_mass_and_a_diagnosis_need_slices_side_by_side_and_a_body():
    person = {"bsa_m2": 0.3, "sex": "F"}
    whole = only(*heart(**person))
    # LVEDV 10.8 to 13.2 mL is 36 to 44 mL/m^2, LVEF 50 to 68, RVEF 0: RV, or HCM by its walls.
    assert whole.diagnoses == {"RV", "HCM"}
    sized = {"height_cm": 100.0, "weight_kg": 3.24, "sex": "female"}
    assert only(*heart(**sized)).diagnoses == whole.diagnoses
    assert only(*heart(sex="F")).diagnoses is None
    rows, slices = heart(**person)
    gaps = only(rows, [{**one, "z": 3 * one["z"]} for one in slices])
    assert "lvm" not in gaps.limits
    assert gaps.diagnoses is None
    assert gaps.limits["lvef"] == whole.limits["lvef"]
    two = only(rows, [one for one in slices if one["z"] < 5])
    assert set(two.limits) == {"lvef", "rvef"}
    unnumbered = [{k: v for k, v in one.items() if k != "z"} for one in slices]
    assert only(rows, unnumbered).limits == whole.limits


def test_classes_are_known_by_their_names_in_any_order():
    rows, slices = heart()
    manifest = {**MANIFEST, "task": {"classes": ["background", "RV", "MYO", "LV"]}}
    found = only(rows, slices, manifest)
    assert found.limits["rvef"] == pytest.approx((50.0, 100 * 225 / 330))
    assert found.limits["lvef"] == (0.0, 0.0)
    for classes in (["a", "b"], ["background", "x", "lv", "y"]):
        other = {**MANIFEST, "task": {"classes": classes}}
        made = certain_measures(*as_tables(rows, slices), other, PROOF)
        assert [list(one.limits) for one in made] == ([["lvef"]] if "lv" in classes else [])


def test_there_is_nothing_to_say_without_phases_or_without_counts():
    rows, slices = heart()
    records, cases = as_tables(rows, slices)
    assert certain_measures(records, cases.drop(columns="phase"), MANIFEST, PROOF) == []
    assert certain_measures(records, cases.assign(phase="t03"), MANIFEST, PROOF) == []
    plain = records[records["metric"] == "certified"]
    assert certain_measures(plain, cases, MANIFEST, PROOF) == []


def test_resampled_medians_are_those_of_the_resamples_written_out():
    rng = np.random.default_rng(1)
    for patients in (2, 9, 30):
        values = rng.lognormal(size=patients).round(1)
        table = draw_patients(patients, generator(3), draws=400)
        medians = [np.median(np.repeat(values, counts)) for counts in table]
        found = median_estimate(values, table)
        ends = np.quantile(medians, [0.025, 0.975], method="closest_observation")
        assert (found.value, found.low, found.high) == pytest.approx((np.median(values), *ends))


def test_infinite_widths_and_few_patients_keep_their_meaning():
    table = draw_patients(12, generator(0))
    found = median_estimate(np.array([*range(1, 8), *[math.inf] * 5], dtype=float), table)
    assert found.value == 6.5
    assert found.low < 6.5 < found.high == math.inf
    one = median_estimate(np.array([4.0]), table[:, :1])
    assert (one.value, math.isnan(one.low), one.method) == (4.0, True, "")
    assert math.isnan(median_estimate(np.array([]), table[:, :0]).value)


def test_its_interval_covers_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(7)
    table = draw_patients(30, generator(0), draws=400)
    rounds = 400
    inside = 0
    for _ in range(rounds):
        found = median_estimate(rng.lognormal(size=30), table)
        inside += found.low <= 1.0 <= found.high
    # The law of so many rounds at 95%, with room for the percentile's known error at 30.
    assert stats.binom.ppf(1e-4, rounds, 0.92) <= inside <= stats.binom.ppf(1 - 1e-4, rounds, 0.98)
