"""Whether a cohort has enough patients, and its subgroups enough in a group."""

from math import nan

import pytest

from robustbench_med.cases import CaseSummary
from robustbench_med.survey import few_patients, suspicious_subgroups


def summaries(rows):
    """One case of a patient a row, of patient, then attributes."""
    return [CaseSummary(f"c{i}", f"p{who}", known, "d") for i, (who, known) in enumerate(rows)]


def test_fewer_than_twenty_patients_are_told_however_many_cases_there_are():
    many = summaries((i % 19, {}) for i in range(400))
    assert few_patients(many).startswith("cohort: expected at least 20 patients, got 19: ")
    assert "\n" not in few_patients(many)
    assert few_patients(summaries((i, {}) for i in range(20))) is None


def test_a_number_without_bands_is_told_with_what_to_do():
    (line,) = suspicious_subgroups(
        summaries((i, {"age": 40 + i % 40, "sex": "FM"[i % 2]}) for i in range(100)),
        [["sex"], ["age"]],
    )
    assert line == (
        "subgroups: 'age' has 40 groups (median size 2.5), 40 of them of fewer than 10 patients; "
        "declare bands of 'age' and name those"
    )


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (lambda i: f"{i % 40:03}Y", "declare bands of 'x'"),
        (lambda i: 0.5 + i % 40, "declare bands of 'x'"),
        (lambda i: f"site {i % 40}", "merge values, or leave it out"),
    ],
)
def test_forty_values_are_told_by_their_kind(value, advice):
    (line,) = suspicious_subgroups(summaries((i, {"x": value(i)}) for i in range(100)), [["x"]])
    assert advice in line


@pytest.mark.parametrize(
    ("patients", "values", "suspected"),
    [(12, 12, False), (13, 13, True), (130, 13, False), (129, 13, False), (60, 13, True)],
)
def test_many_groups_that_are_large_or_few_that_are_small_are_no_harm(patients, values, suspected):
    rows = summaries((i, {"site": f"s{i % values}"}) for i in range(patients))
    assert bool(suspicious_subgroups(rows, [["site"]])) is suspected


def test_patients_count_not_cases():
    slices = summaries((i // 20, {"z": i % 20}) for i in range(20 * 15))
    assert suspicious_subgroups(slices, [["z"]]) == []
    images = summaries((i % 40, {"site": f"s{i % 40}"}) for i in range(4000))
    assert len(suspicious_subgroups(images, [["site"]])) == 1


def test_missing_values_are_in_no_group():
    rows = summaries((i, {"age": [None, nan][i % 2]} if i > 11 else {"age": i}) for i in range(99))
    assert suspicious_subgroups(rows, [["age"], ["gone"]]) == []


def test_a_crossing_is_told_unless_one_of_its_attributes_is():
    rows = summaries(
        (i, {"site": f"s{i % 7}", "sex": "FM"[i % 2], "age": float(i)}) for i in range(60)
    )
    crossed = suspicious_subgroups(rows, [["age", "sex"], ["site", "sex"], ["age"]])
    assert [line.split(" has ")[0] for line in crossed] == [
        "subgroups: 'age'", "subgroups: 'site x sex'",
    ]  # fmt: skip
    (line,) = suspicious_subgroups(rows, [["sex", "age"]])
    assert "declare bands of 'age'" in line
