"""What is said at `rbmed check` of the gaps that a cohort can show."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robustbench_med.reports.policy import Rule
from robustbench_med.sizing import lines, out_of_reach, sizes


def cohort(**groups):
    """Patients with one case each, by value of the attribute `arm`."""
    values = [value for value, patients in groups.items() for _ in range(patients)]
    names = [f"p{place}" for place in range(len(values))]
    return pd.DataFrame({"case_id": names, "patient_id": names, "arm": values})


def by_group(found):
    return {group.group: group for group in found.groups}


def closed_form(group, rest, tests, crowding=1.0):
    """Gap g with g = z sqrt(d (v(0.9 - g) / group + v(0.9) / rest)): a quadratic equation."""
    z = stats.norm.isf(0.05 / (2 * tests)) + stats.norm.ppf(0.8)
    d = z**2 * (1 + (crowding - 1) * 0.3)
    return np.roots([1 + d / group, -0.8 * d / group, -0.09 * d * (1 / group + 1 / rest)]).max()


def test_two_groups_that_part_the_cohort_make_one_comparison():
    found = sizes(cohort(a=100, b=300), [["arm"]])
    assert found.comparisons == 1
    for name, own, rest in (("a", 100, 300), ("b", 300, 100)):
        assert by_group(found)[name].gap == pytest.approx(closed_form(own, rest, 1), rel=1e-9)
        assert by_group(found)[name].note == ""


def test_each_group_is_held_against_all_others_at_the_level_of_the_family():
    found = sizes(cohort(a=100, b=60, c=40, d=9), [["arm"]])
    assert found.comparisons == 3
    groups = by_group(found)
    assert groups["c"].gap == pytest.approx(closed_form(40, 169, 3), rel=1e-9)
    assert math.isnan(groups["d"].gap)
    assert groups["d"].note == "fewer than 10 patients: will not be shown"


def test_a_subgroup_named_twice_asks_nothing_twice():
    cases = cohort(a=50, b=50, c=50).assign(same=lambda table: table["arm"])
    assert sizes(cases, [["arm"], ["same"], ["arm", "same"]]).comparisons == 3


@pytest.mark.parametrize(
    ("own", "rest", "note"),
    [
        (9, 100, "fewer than 10 patients: will not be shown"),
        (10, 100, "10 to 29: shown, not gated"),
        (29, 100, "10 to 29: shown, not gated"),
        (30, 100, ""),
        (100, 9, "fewer than 10 others to compare with"),
        (100, 29, "10 to 29: shown, not gated"),
    ],
)
def test_few_patients_on_either_side_are_told(own, rest, note):
    assert by_group(sizes(cohort(a=own, b=rest), [["arm"]]))["a"].note == note


def test_cases_of_one_patient_count_for_less_than_so_many_patients():
    cases = cohort(a=40, b=60)
    many = pd.concat([cases.assign(case_id=cases["case_id"] + f".{i}") for i in range(5)])
    found = sizes(many, [["arm"]])
    assert found.cases_per_patient == 5
    assert by_group(found)["a"].patients == 40
    assert by_group(found)["a"].gap == pytest.approx(closed_form(200, 300, 1, 5.0), rel=1e-9)
    alone = by_group(sizes(cases, [["arm"]]))["a"].gap
    assert alone / math.sqrt(5) < by_group(found)["a"].gap < alone
    assert "intraclass correlation 0.3" in " ".join(lines(found))


def test_the_gap_that_is_named_is_found_four_times_in_five():
    rng = np.random.default_rng(5)
    group, rest, tests = 400, 1600, 4
    gap = closed_form(group, rest, tests)
    a = rng.binomial(group, 0.9 - gap, 20000) / group
    b = rng.binomial(rest, 0.9, 20000) / rest
    error = np.sqrt(a * (1 - a) / group + b * (1 - b) / rest)
    power = np.mean(np.abs(a - b) / error > stats.norm.isf(0.05 / (2 * tests)))
    assert power == pytest.approx(0.8, abs=0.03)


def test_lines_fit_a_terminal_and_say_what_is_assumed():
    names = {"a very long name of a group that goes on": 30, "b": 9, "c\x1b[31m": 12, "東": 200}
    text = lines(sizes(cohort(**names), [["arm"], ["arm", "arm"]]))
    assert max(map(len, text)) <= 80
    assert all(line.isprintable() for line in text)
    assert "for 3 comparisons" in " ".join(text)
    assert "<10" in " ".join(text)
    assert not any("nan" in line for line in text)


def test_without_subgroups_nothing_is_said():
    assert lines(sizes(cohort(a=3), [])) == []


def test_of_many_groups_that_are_too_small_only_the_number_is_told():
    few = {f"v{place}": 2 for place in range(12)}
    text = lines(sizes(cohort(a=60, b=60, **few), [["arm"]]))
    assert any("12 groups of fewer than 10 patients" in line for line in text)
    assert not any("v3" in line for line in text)
    assert any("v1" in line for line in lines(sizes(cohort(a=60, b=60, v1=2, v2=2), [["arm"]])))


def test_rules_that_want_more_patients_than_there_are_are_named_before_the_run():
    found = sizes(cohort(a=60, b=12, c=4), [["arm"]])
    rules = [
        Rule("everyone", "clean", "correct", "floor", 0.8),
        Rule("many", "clean", "correct", "floor", 0.8, min_patients=100),
        Rule("each", "clean", "correct", "floor", 0.8, subgroup=("arm",)),
        Rule("only a", "clean", "correct", "floor", 0.8, subgroup=("arm",), group="a"),
        Rule("lenient", "clean", "correct", "floor", 0.8, subgroup=("arm",), min_patients=3),
    ]
    told = out_of_reach(found, 76, rules)
    assert len(told) == 2
    assert "rule 'many' needs 100 patients" in told[0]
    assert told[0].endswith("undecided for all patients (76)")
    assert "rule 'each' needs 30 patients" in told[1]
    assert told[1].endswith("undecided for arm = b (12), arm = c (<10)")
