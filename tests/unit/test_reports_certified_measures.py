"""Limits of clinical measures in a report: what is shown of whom, and what is held back."""

import numpy as np
import pandas as pd
import pytest

from robustbench_med.reports.certified_measures import certified_measures
from robustbench_med.reports.certified_widths import ONE_LEFT, SETTLED
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.limit_bars import bars
from robustbench_med.statistics.certain import UNANSWERED, Certain, certain_measures

BALL = "linf<=0.01"
PROOF, ATTACK = f"crown[{BALL}]", f"pgd[{BALL}]"
DASH = "\N{EN DASH}"
LV = [40 + 2 * place for place in range(24)]  # of each patient at end-systole, of 100


def slices_of(place):
    """Cases and records of one patient: three slices a phase; LV is surely within one pixel."""
    who = {"patient_id": f"secret{place:02}", "sex": "FM"[place % 2], "bsa_m2": 1.5}
    rows, cases = [], []
    for phase in ("ED", "ES"):
        for z in range(3):
            case = f"{who['patient_id']}-{phase}-{z}"
            cases.append({"case_id": case, "phase": phase, "z": z, **who})
            lv = 100 if phase == "ED" else LV[place % 24]
            found = {"certified": 0.9, "voxel_ml": 0.5}
            for k, (n, by) in enumerate([(500, 3), (lv, 1), (80, 2), (100, 0)]):
                found |= {f"least.{k}": n - by, f"most.{k}": n + by, f"answer.{k}": n}
            rows += [(case, PROOF, "certificate", *item) for item in found.items()]
            rows.append((case, ATTACK, "attack", "dice_lv.predicted", lv - 1.0))
    return rows, cases


def made(patients=24, failing=(), kind="certificate"):
    rows, cases = [], []
    for place in range(patients):
        own, slices = slices_of(place)
        if place in failing:
            own = [row if row[3] == "certified" else (*row[:4], np.nan) for row in own[:-1]]
        rows, cases = rows + own, cases + slices
    manifest = {
        "seed": 0,
        "subgroups": [["sex"], ["phase"]],
        "task": {"kind": "segmentation", "classes": ["background", "lv", "myo", "rv"]},
        "metrics": {"dice_lv": {"patient": "dice", "label": "lv"}},
        "probes": [
            {"name": ATTACK, "kind": "attack", "ball": BALL},
            {"name": PROOF, "kind": kind, "ball": BALL},
        ],
    }
    records = pd.DataFrame(rows, columns=["case_id", "probe", "kind", "metric", "value"])
    empty = pd.DataFrame()
    return Evidence(manifest, pd.DataFrame(cases), records, empty, empty, empty, empty)


def as_rows(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def by_quantity(section):
    return {row["Quantity"]: row for row in as_rows(section.tables[0])}


def limits_of(lv):
    return 100 * (1 - (lv + 1) / 99), 100 * (1 - (lv - 1) / 101)


def test_widths_and_shares_are_those_of_the_patients():
    shown = by_quantity(certified_measures(made()))
    ends = np.array([limits_of(lv) for lv in LV])
    width = shown["Width certified: LVEF, percentage points"]
    assert float(width["Value"]) == pytest.approx(np.median(ends[:, 1] - ends[:, 0]), abs=6e-4)
    low, high = (float(end) for end in width["95% interval"][1:-1].split(","))
    assert low <= float(width["Value"]) <= high
    assert width["Patients"] == "24"
    mass = shown["Width certified: LV mass, g"]
    assert float(mass["Value"]) == pytest.approx(3 * 4 * 0.5 * 1.05, abs=6e-4)
    reached = shown["Width reached by attacks: LVEF, percentage points"]
    corners = [100 * (lv / 99 - (lv - 1) / 100) for lv in LV]
    assert float(reached["Value"]) == pytest.approx(np.median(corners), abs=6e-4)
    assert "Width reached by attacks: LV mass, g" not in shown
    crossed = sum(low < cut <= high for low, high in ends for cut in (40, 50))
    assert 0 < crossed < 24
    assert float(shown[SETTLED]["Value"]) == pytest.approx(1 - crossed / 24, abs=6e-4)
    assert float(shown[ONE_LEFT]["Value"]) == pytest.approx(
        np.mean([len(one.diagnoses) <= 1 for one in all_of(made())]), abs=6e-4
    )


def all_of(evidence):
    return certain_measures(evidence.records, evidence.cases, evidence.manifest, PROOF)


def test_patients_left_out_are_counted_with_their_reason_and_have_no_part_in_the_figures():
    section = certified_measures(made(failing=(2, 5, 6)))
    said = next(text for text in section.paragraphs if text.startswith(PROOF))
    assert f"limits for 21 of 24 patients. Without, by reason: 3: {UNANSWERED}." in said
    assert "outside what is proved: 0" in said
    assert by_quantity(section)[SETTLED]["Patients"] == "21"
    assert sum(int(row["Patients"]) for row in as_rows(section.figures[0].table)) == 21


def test_a_count_that_a_proof_excludes_is_told():
    evidence = made()
    broken = evidence.records["probe"].eq(ATTACK) & evidence.records["case_id"].eq("secret03-ED-0")
    evidence.records.loc[broken, "value"] = 90.0
    said = " ".join(certified_measures(evidence).paragraphs)
    assert "Counts under attack outside what is proved: 1 (" in said


@pytest.mark.parametrize(("patients", "failing"), [(9, ()), (19, ()), (24, range(15))])
def test_few_patients_show_no_value_and_no_drawing(patients, failing):
    section = certified_measures(made(patients, failing))
    assert section.figures == ()
    shown = as_rows(section.tables[0])
    assert {row["Value"] for row in shown} == {row["95% interval"] for row in shown} == {DASH}
    assert all("not shown" in row["Note"] for row in shown)
    assert len(section.tables) == 1


def test_groups_are_those_of_patients_and_only_those_of_ten_or_more():
    groups = as_rows(certified_measures(made()).tables[1])
    assert {row["Group"] for row in groups} == {"sex: F", "sex: M"}
    assert {row["Patients"] for row in groups} == {"12"}
    groups = as_rows(certified_measures(made(failing=(0, 2, 4))).tables[1])
    assert {row["Group"] for row in groups} == {"sex: M"}


def test_bars_hold_every_patient_once_and_ten_each_and_none_is_named():
    found = bars(all_of(made()))
    assert [bar.patients for bar in found] == [12, 12]
    low, high = np.median([limits_of(lv) for lv in LV[12:]], axis=0)
    assert (found[0].low, found[0].high) == pytest.approx((low, high))
    assert found[0].clean < found[1].clean
    assert found[0].low <= found[0].reached[0] <= found[0].clean
    one = Certain("p", "", {"lvef": (0.0, 1.0)}, {"lvef": 0.5}, {})
    assert bars([one] * 9) == []
    assert len(bars([one] * 250)) == 10
    assert np.isnan(bars([one] * 10)[0].reached[0])
    section = certified_measures(made())
    told = repr(section)
    assert "secret" not in told
    assert "certified: stays inside" in section.figures[0].svg


def test_a_lower_limit_without_end_is_drawn_and_settles_nothing():
    evidence = made()
    lost = evidence.records["metric"].eq("least.1")
    evidence.records.loc[lost, "value"] = 0.0
    section = certified_measures(evidence)
    shown = by_quantity(section)
    assert shown["Width certified: LVEF, percentage points"]["Value"] == "∞"
    assert float(shown[SETTLED]["Value"]) == 0
    assert all("[-∞" in row["Certified limits"] for row in as_rows(section.figures[0].table))


def test_there_is_no_section_without_such_a_certificate():
    assert certified_measures(made(kind="attack")) is None
    evidence = made()
    plain = evidence.records[~evidence.records["metric"].str.startswith("least")]
    assert certified_measures(Evidence(**{**vars(evidence), "records": plain})) is None
