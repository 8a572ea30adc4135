"""Operating point, calibration, agreement and search: as the records have it, and no more."""

import dataclasses
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from robustbench_med.reports.agreement import agreement
from robustbench_med.reports.bland_altman import stretches
from robustbench_med.reports.calibrated import in_words
from robustbench_med.reports.case_scores import CaseScores, case_scores, curves
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.method_texts import COLUMNS, FIGURES, INTERVALS
from robustbench_med.reports.methods import methods
from robustbench_med.reports.operating import operating
from robustbench_med.reports.reliability import bins
from robustbench_med.reports.roc import operating_points
from robustbench_med.reports.search import search
from robustbench_med.runfolder import Run
from robustbench_med.statistics import estimate
from robustbench_med.statistics.comparison import AREAS, CLUSTERED, NEWCOMBE
from robustbench_med.statistics.flips import TANGO

FIXTURE = runpy.run_path(str(Path(__file__).with_name("reports_fixture.py")))
DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return FIXTURE["shared_run"](tmp_path_factory.getbasetemp() / "reports-cine")


@pytest.fixture(scope="module")
def evidence(run):
    return Evidence.of(run)


@pytest.fixture(scope="module")
def scores(evidence):
    return case_scores(evidence, "finding")


def as_rows(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def changed(evidence, **settings):
    """The evidence with other settings of the finding."""
    metrics = evidence.manifest["metrics"]
    told = {**metrics, "finding": {**metrics["finding"], **settings}}
    return dataclasses.replace(evidence, manifest={**evidence.manifest, "metrics": told})


def test_probabilities_are_those_of_the_finding_and_not_of_the_truth(evidence, scores):
    given = evidence.records.query("probe == 'clean' and metric == 'finding'")
    by_case = given.set_index("case_id")["value"]
    for case, score, there in zip(
        scores.cases["case_id"], scores.score, scores.positive, strict=True
    ):
        expected = by_case[case] if there else 1 - by_case[case]
        assert score == pytest.approx(expected)
    assert len(scores.score) == len(evidence.cases)


def test_the_threshold_is_told_with_where_it_is_from(evidence):
    part = operating(evidence).parts[0]
    assert "from a probability of 0.400 on" in part.paragraphs[0]
    assert "model card: split val, sensitivity >= 0.9" in part.paragraphs[0]
    none = operating(changed(evidence, threshold=None, threshold_from=None)).parts[0]
    assert "No threshold was fixed before the test" in none.paragraphs[0]
    plan = operating(changed(evidence, threshold_from="plan")).parts[0]
    assert "source: the plan." in plan.paragraphs[0]


def test_rates_at_the_operating_point_are_counted_with_and_without_the_finding(evidence, scores):
    shown = {row["Group"]: row for row in as_rows(operating(evidence).parts[0].figures[0].table)}
    women = (scores.cases["sex"] == "F").to_numpy()
    called = scores.score >= 0.4
    for name, among, right in (
        ("Sensitivity", women & scores.positive, called),
        ("Specificity", women & ~scores.positive, ~called),
        ("PPV", women & called, scores.positive),
        ("NPV", women & ~called, ~scores.positive),
    ):
        assert float(shown["sex: F"][name].split()[0]) == pytest.approx(
            right[among].mean(), abs=0.0006
        )
    owners = scores.cases["patient_id"].to_numpy()
    assert shown["sex: F"]["Patients with"] == str(len(set(owners[women & scores.positive])))
    assert shown["sex: F"]["Without"] == str(len(set(owners[women & ~scores.positive])))
    assert shown["sex: not recorded"]["Patients with"] == "<10"
    assert shown["sex: not recorded"]["Sensitivity"] == DASH


def test_curves_are_drawn_of_groups_with_ten_patients_on_both_sides_only(evidence, scores):
    panels = curves(evidence, scores, 6)
    assert [title for title, _ in panels] == ["all patients", "sex", "site", "sex \u00d7 age_band"]
    for _, groups in panels:
        for group in groups:
            assert min(scores.of(group).patients) >= 10
    drawn = {group.group for group in dict(panels)["sex"]}
    assert drawn == {"F", "M"}


def test_the_marks_on_the_curves_stand_at_the_rates_of_the_table(evidence):
    marks = operating_points(evidence, "finding")
    table = evidence.estimates.query("probe == 'clean' and subgroup == 'sex' and group == 'F'")
    known = table.set_index("metric")["value"]
    expected = (1 - known["finding.specificity"], known["finding.sensitivity"])
    assert marks["sex", "F"] == pytest.approx(expected)
    assert ("sex", "not recorded") not in marks


def test_bins_of_the_reliability_curve_hold_every_case_once_and_ten_patients_each(scores):
    for group in (scores, scores.of(_slice("sex", "F")), scores.of(_slice("site", "south"))):
        found = bins(group)
        assert 2 <= len(found) <= 6
        assert all(each.patients >= 10 for each in found)
        assert sum(each.cases for each in found) == len(group.score)
        risks = [each.predicted for each in found]
        assert risks == sorted(risks)
        hits = sum(each.observed.value * each.cases for each in found)
        assert hits == pytest.approx(group.positive.sum())
    assert bins(scores.of(_slice("sex", "not recorded"))) == []


def _slice(column, value):
    from robustbench_med.statistics.slices import Slice

    return Slice((column,), (value,))


def test_calibration_is_put_into_words_by_whole_intervals():
    def row(group, value, low, high):
        return SimpleNamespace(
            subgroup="sex", group=group, value=value, low=low, high=high, patients=40,
            status="ok", cases=40,
        )  # fmt: skip

    ratios = [row("F", 0.6, 0.5, 0.8), row("M", 1.4, 1.1, 1.7), row("X", 0.9, 0.8, 1.1),
              row("Y", math.nan, math.nan, math.nan)]  # fmt: skip
    slopes = [row("F", 0.7, 0.5, 0.9), row("M", 1.0, 0.8, 1.2)]
    found = {("m.observed_expected", "clean"): ratios, ("m.calibration_slope", "clean"): slopes}
    texts = [text for _, text in in_words(SimpleNamespace(by_probe=found), "m").lines]
    assert texts == [
        "Predicted risks are too high for sex: F (O:E 0.600 [0.500, 0.800] n=40).",
        "Predicted risks are too low for sex: M (O:E 1.400 [1.100, 1.700] n=40).",
        "Predictions are too extreme for sex: F (slope 0.700 [0.500, 0.900] n=40).",
        "Observed over expected cannot be told from 1 for sex: X (O:E 0.900 [0.800, 1.100] n=40).",
    ]


def test_the_planted_overstatement_in_women_is_found(evidence):
    part = operating(evidence).parts[1]
    first = part.listings[0].lines[0][1]
    assert first.startswith("Predicted risks are too high for all patients")
    assert "sex: F (O:E 0." in first


def test_a_run_without_a_detection_metric_has_no_operating_point(evidence):
    assert operating(changed(evidence, reads="")) is None


def test_errors_by_size_are_binned_so_that_no_mark_is_a_patient():
    rng = np.random.default_rng(0)
    true = rng.normal(55, 10, 57)
    patients = pd.DataFrame({"predicted": true + rng.normal(1, 3, 57), "true": true})
    found = stretches(patients)
    assert len(found) == 5
    assert min(each.patients for each in found) >= 10
    assert sum(each.patients for each in found) == 57
    error = (patients["predicted"] - patients["true"]).to_numpy()
    total = sum(each.error * each.patients for each in found)
    assert total == pytest.approx(error.sum())
    assert stretches(patients[:9]) == []


def test_agreement_shows_bias_and_limits_of_every_group_that_may_be_shown(evidence):
    part = next(p for p in agreement(evidence).parts if p.title.startswith("ef_error"))
    assert len(part.figures) == 2
    rows = as_rows(part.figures[1].table)
    women = next(row for row in rows if row["Group"] == "sex: F" and row["Under"] == "clean images")
    table = evidence.estimates.query("probe == 'clean' and subgroup == 'sex' and group == 'F'")
    known = table.set_index("metric")["value"]
    for column, metric in (
        ("Bias, 95% interval", "ef_error"),
        ("Lower limit, 95% interval", "ef_error.loa_low"),
        ("Upper limit, 95% interval", "ef_error.loa_high"),
        ("Beyond the tolerance, 95% interval", "ef_error.failure"),
    ):
        assert float(women[column].split()[0]) == pytest.approx(known[metric], abs=0.0006)
        assert re.search(r" \[-?[\d.]+, -?[\d.]+\]$", women[column])
    volume = next(p for p in agreement(evidence).parts if p.title.startswith("volume_error"))
    assert len(volume.figures) == 1


def test_moves_up_and_down_add_up_to_all_moves(evidence):
    part = next(p for p in agreement(evidence).parts if p.title.startswith("moved"))
    for row in as_rows(part.tables[0]):
        moved, up, down = (
            float(row[f"{name}, 95% interval"].split()[0])
            for name in ("Moved to another zone", "Moved up", "Moved down")
        )
        assert up + down == pytest.approx(moved, abs=0.0011)


def test_nothing_is_called_a_finding_that_chance_makes_in_one_of_twenty_searches(evidence):
    first, top = search(evidence).tables
    for row in (*as_rows(first), *as_rows(top)):
        often = re.search(
            r"in (less than )?([\d.]+)% of such searches: (a|no) finding", row["In words"]
        )
        assert (float(often[2]) < 5) == (often[3] == "a"), row
    assert any(": a finding, worse" in row["In words"] for row in as_rows(first))
    assert any(": no finding" in row["In words"] for row in as_rows(first))


def test_a_search_without_differences_finds_nothing(evidence):
    table = evidence.search.assign(p_joint=0.34)
    quiet = dataclasses.replace(evidence, search=table)
    for shown in search(quiet).tables:
        assert {row["In words"] for row in as_rows(shown)} == {
            "chance alone makes a group this far off in 34.0% of such searches: no finding"
        }
    nothing = dataclasses.replace(evidence, manifest={**evidence.manifest, "explore": []})
    assert search(nothing) is None
    empty = dataclasses.replace(evidence, search=evidence.search[:0])
    assert "No group was large enough" in search(empty).paragraphs[-1]


def test_every_method_that_statistics_may_name_has_its_formula_and_its_source():
    named = {
        value for name, value in vars(estimate).items() if name.isupper() and isinstance(value, str)
    }
    assert {*named, NEWCOMBE, CLUSTERED, AREAS, TANGO} == set(INTERVALS)


def test_methods_lists_what_the_run_used_and_nothing_else(evidence):
    intervals, others = methods(evidence).tables
    table = evidence.estimates
    used = {*table["method"], *table["difference_method"], *table["change_method"]} - {"", None}
    assert {row[0] for row in intervals.rows} == used
    assert len(others.rows) == len(COLUMNS) + len(FIGURES)
    plain = table[table["metric"] == "correct"].assign(p_holm=math.nan)
    bare = dataclasses.replace(evidence, estimates=plain, search=evidence.search[:0])
    titles = {row[0] for row in methods(bare).tables[1].rows}
    assert not [title for title in titles if "Holm" in title or "Search" in title]
    assert "Limits of agreement" not in titles


def test_a_group_of_a_case_scores_keeps_cases_scores_and_truths_together():
    cases = pd.DataFrame({"patient_id": list("aabc"), "sex": ["F", "F", "M", "F"]})
    found = CaseScores(cases, np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False]))
    women = found.of(_slice("sex", "F"))
    assert women.score.tolist() == [0.1, 0.2, 0.4]
    assert women.patients == (1, 2)
    assert not women.shown
