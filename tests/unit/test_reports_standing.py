"""How groups stand: claims only where the corrected comparison holds, and what could be found."""

import dataclasses
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from robustbench_med.reports.changes import changes
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.probes_shown import shown_worst, under, worst_cases
from robustbench_med.reports.rows import compared, declared, described
from robustbench_med.reports.standing import (
    FOUND,
    Families,
    changing,
    findable_change,
    margin,
    standing,
)
from robustbench_med.reports.subgroups import found_groups, subgroups
from robustbench_med.reports.summary import render_summary
from robustbench_med.runfolder import Run
from robustbench_med.statistics.families import adjust
from robustbench_med.statistics.study import findings_of, open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("reports_fixture.py")))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return FIXTURE["shared_run"](tmp_path_factory.getbasetemp() / "reports-cine")


@pytest.fixture(scope="module")
def evidence(run):
    return Evidence.of(run)


def row(**values):
    """A row of the table of estimates, found different unless told otherwise."""
    usual = {
        "subgroup": "sex", "group": "F", "status": "ok", "better": "higher", "value": 0.7,
        "rest_value": 0.9, "p_holm": 0.01, "detectable": 0.1, "patients": 40, "change": -0.2,
        "interaction": -0.1, "interaction_low": -0.15, "interaction_high": -0.05,
        "interaction_p": 0.001, "interaction_p_holm": 0.01,
    }  # fmt: skip
    return SimpleNamespace(**(usual | values))


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("worse", {}),
        ("better", {"better": "lower"}),
        ("worse", {"better": "zero", "value": -3.0, "rest_value": -1.0}),
        ("better", {"better": "zero", "value": 0.5, "rest_value": 2.0}),
        ("differs", {"better": "zero", "value": -1.0, "rest_value": 2.0}),
        ("worse", {"better": "one", "value": 0.5, "rest_value": 0.9}),
        ("better", {"better": "one", "value": 1.1, "rest_value": 1.6}),
        ("differs", {"better": "one", "value": 1.1, "rest_value": 0.6}),
        ("no difference found", {"p_holm": 0.05}),
        ("cannot tell", {"p_holm": 0.05, "detectable": 0.21}),
        ("cannot tell", {"p_holm": math.nan, "detectable": math.nan}),
        ("no value", {"p_holm": math.nan, "value": math.nan}),
        ("too few", {"p_holm": math.nan, "value": math.nan, "status": "suppressed"}),
    ],
)  # fmt: skip
def test_a_word_is_a_claim_only_where_the_corrected_comparison_holds(word, values):
    assert standing(row(**values), 0.2) == word


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("hurt more", {}),
        ("hurt less", {"interaction": 0.1}),
        ("hurt more", {"better": "lower", "change": 0.3, "interaction": 0.1}),
        ("moved more", {"better": "zero", "change": 3.0, "interaction": 1.0}),
        ("moved less", {"better": "zero", "change": 3.0, "interaction": -1.0}),
        ("moved otherwise", {"better": "zero", "change": 1.0, "interaction": 2.0}),
        ("no difference found", {"interaction_p_holm": 0.4}),
        ("cannot tell", {"interaction_p_holm": 0.4, "interaction_low": -0.9}),
        ("cannot tell", {"interaction_p_holm": math.nan, "interaction_low": math.nan}),
        ("too few", {"interaction_p_holm": math.nan, "status": "suppressed"}),
    ],
)  # fmt: skip
def test_a_probe_hurts_a_group_more_only_where_the_difference_of_changes_holds(word, values):
    assert changing(row(**values), 0.2, 5) == word


def test_the_least_difference_of_changes_that_could_be_found_is_reckoned_as_that_of_values():
    found = findable_change(row(), 1)
    error = 0.1 / (2 * 1.959963985)
    assert found == pytest.approx((1.959963985 + 0.841621234) * error, rel=1e-8)
    assert math.isnan(findable_change(row(interaction_low=math.nan), 1))


def test_a_gap_worth_finding_is_a_fifth_of_the_range_else_follows_the_spread(evidence):
    assert margin(evidence, "dice") == pytest.approx(0.2)
    assert margin(evidence, "ef_error.failure") == pytest.approx(0.2)
    assert margin(evidence, "finding.calibration_slope") == pytest.approx(0.5)
    ends = [under(evidence, f"volume_error.{end}", "clean")[0].value
            for end in ("loa_low", "loa_high")]  # fmt: skip
    assert margin(evidence, "volume_error") == pytest.approx((ends[1] - ends[0]) / 4)
    bare = evidence.estimates[~evidence.estimates["metric"].str.contains("loa")]
    without = dataclasses.replace(evidence, estimates=bare)
    assert margin(without, "ef_error") == pytest.approx(5.0)
    clean = under(evidence, "volume_error", "clean")[0]
    assert margin(without, "volume_error") == pytest.approx(clean.value / 2)


def test_families_are_as_large_as_the_correction_took_them(evidence):
    study = open_study(evidence.records, evidence.cases, evidence.failures, evidence.manifest)
    adjusted = adjust(study, findings_of(study, evidence.manifest["subgroups"]))
    families = Families.of(evidence)
    for column, (reading, probe) in enumerate(study.columns):
        rows = under(evidence, reading.metric, probe.name)
        assert families.size(rows) == adjusted.tests[column], (reading.metric, probe.name)


def test_every_group_has_a_word_and_no_word_claims_more_than_the_table_of_estimates(evidence):
    table = evidence.estimates
    for view in found_groups(evidence):
        same = (table["metric"] == view.metric) & (table["probe"] == view.probe)
        assert len(view.groups) == (same & (table["subgroup"] != "")).sum()
        for group, word in view.groups:
            claimed = word in (*FOUND, "better")
            assert claimed == bool(group.p_holm < 0.05)
            assert (word == "too few") == (group.status == "suppressed")
            if word == "no difference found":
                assert group.detectable <= view.margin


def test_a_planted_gap_is_told_in_a_sentence_with_all_that_it_rests_on(evidence):
    section = subgroups(evidence)
    part = next(p for p in section.parts if p.title.startswith("ef_error.failure"))
    assert not part.folded
    worst = next(each for each in part.listings if each.title.startswith("Worst case"))
    word, text = worst.lines[0]
    assert word == "worse"
    pattern = (
        r"sex: F: [\d.]+ \[[\d.]+, [\d.]+\], n=90, against [\d.]+ in the \d+ other patients; "
        r"difference [\d.]+ \[[\d.]+, [\d.]+\]; corrected for 12 comparisons, p < 0.001\."
    )
    assert re.fullmatch(pattern, text)


def test_whoever_is_not_found_is_named_with_the_gap_that_could_have_been(evidence):
    section = subgroups(evidence)
    part = next(p for p in section.parts if p.title.startswith("dice ("))
    assert part.folded
    lines = dict(part.listings[0].lines)
    known = {r.group: r for r in under(evidence, "dice", "clean") if r.subgroup == "sex"}
    assert f"sex: F ({known['F'].detectable:.3f})" in lines["no difference found"]
    assert "No group stands out" in lines[""]
    assert "fewer than 10 patients" in lines["too few"]


def test_only_metrics_and_failures_have_a_forest_plot(evidence):
    section = subgroups(evidence)
    plots = [part for part in section.parts if part.figures]
    assert len(plots) == len(compared(evidence)) == len(declared(evidence)) + 2
    assert not [part for part in plots if "auc" in part.title or "loa" in part.title]
    assert described(evidence, "dice.failure") == (
        "dice.failure: share with dice below 0.800 (lower is better)"
    )


def test_the_distance_from_best_to_worst_never_stands_without_what_chance_makes(evidence):
    section = subgroups(evidence)
    part = next(p for p in section.parts if p.title.startswith("The worst group"))
    place = part.tables[0].columns.index("Best to worst")
    shown = [cells[place] for cells in part.tables[0].rows if cells[place] != "\N{EN DASH}"]
    assert shown
    assert all(re.search(r"; chance alone makes about .*, p [=<] ", text) for text in shown)


def test_bounds_are_withheld_where_they_would_tell_of_fewer_than_ten(evidence):
    section = subgroups(evidence)
    part = next(p for p in section.parts if p.title == "Patients without a record")
    groups = {cells[0] for cells in part.tables[0].rows}
    assert groups == {"sex: F", "sex: M"}
    cases = evidence.cases
    unknown = cases.loc[cases["sex"].isna(), "patient_id"].nunique()
    assert {cells[6] for cells in part.tables[0].rows} == {str(unknown)}


def test_whom_an_attack_hurts_more_is_told_where_planted_and_not_elsewhere(evidence):
    section = changes(evidence)
    part = next(p for p in section.parts if p.title.startswith("finding"))
    worst = part.listings[0]
    assert worst.lines[0][0] == "hurt more"
    assert worst.lines[0][1].startswith("sex: F: changed by -0.")
    silent = next(p for p in section.parts if p.title.startswith("correct"))
    assert silent.folded


def test_the_worst_case_shown_is_in_the_middle_ball_of_the_first_norm(evidence):
    assert worst_cases(evidence, "correct") == [
        "worst[linf<=0.002]", "worst[linf<=0.004]", "worst[linf<=0.008]",
        "worst[l2<=0.01 of norm]", "worst[l2<=0.02 of norm]",
    ]  # fmt: skip
    assert shown_worst(evidence, "correct") == "worst[linf<=0.004]"
    probes = evidence.manifest["probes"][::-1]
    turned = dataclasses.replace(evidence, manifest={**evidence.manifest, "probes": probes})
    assert shown_worst(turned, "correct") == "worst[l2<=0.01 of norm]"
    clean = evidence.estimates[evidence.estimates["kind"] == "clean"]
    assert shown_worst(dataclasses.replace(evidence, estimates=clean), "correct") is None


def test_without_subgroups_nobody_is_compared(run):
    manifest = {**run.manifest, "subgroups": []}
    bare = dataclasses.replace(Evidence.of(run), manifest=manifest)
    assert subgroups(bare).paragraphs == ("The plan names no subgroups.",)
    assert changes(bare) is None
    assert "stand out" not in render_summary(bare)
