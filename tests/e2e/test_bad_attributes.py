"""Tables whose people do not add up: told by line from every command, and mended by one edit."""

import csv

import pytest


@pytest.fixture
def people(study):
    """The study with an age in DICOM's form and a vendor per case, and a second image of all."""
    path = study.folder / "data" / "cases.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    more = [[f"{row[0]}b", *row[1:]] for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*header, "age", "vendor"])
        for i, row in enumerate([*rows, *more]):
            table.writerow([*row, f"{20 + i % len(rows):03}Y", "AB"[i % len(rows) // 25]])
    study.edit(
        'attributes = ["sex", "site"]',
        'attributes = ["sex", "vendor"]\nbands = { age = { column = "age", edges = [0, 40, 90] } }',
    )
    return study


def said_by_both(study):
    lines = study.refused(2, "check", study.plan)
    assert study.refused_run() == lines
    assert not (study.folder / "run").exists()
    return lines


def test_ages_as_dicom_writes_them_make_subgroups(people):
    people.edit('subgroups = ["sex"]', 'subgroups = ["age"]')
    code, _, err = people.run()
    assert (code, err) == (0, "")
    groups = people.opened().estimates.query("subgroup == 'age' and probe == 'clean'")
    assert dict(zip(groups["group"], groups["patients"], strict=True)) == {"0-40": 20, "40-90": 20}


def test_impossible_ages_are_told_together(people):
    people.edit_table(lambda lines: [
        line.replace("021Y", "400").replace("035Y", "forty") for line in lines
    ])  # fmt: skip
    lines = said_by_both(people)
    assert lines[0] == (
        "rbmed: cases.csv line 3: age: age: expected 0 to 90, got '400'; mend or empty the cell, "
        "or add an edge"
    )
    assert [line.split(": age: age:")[0] for line in lines] == [
        f"rbmed: cases.csv line {number}" for number in (3, 17, 43, 57)
    ]


def test_a_patient_of_two_sexes_is_named_with_both_lines(people):
    people.edit_table(lambda lines: [
        line.replace(",F,", ",M,") if line.startswith("case6,") else line for line in lines
    ])  # fmt: skip
    assert said_by_both(people) == [
        (
            "rbmed: cases.csv: patient 'patient6': sex is 'M' (line 8) and 'F' (line 48); mend the "
            "table, or state an of_patient without 'sex'"
        )
    ]
    people.edit("labels = {", "of_patient = []\nlabels = {")
    assert people.rbmed("check", people.plan)[0] == 0


def test_a_vendor_that_is_left_out_is_tested_alone(people):
    people.edit(
        "labels = {", 'splits = { leave_out = { vendor = "B" } }\nsplit = "test"\nlabels = {'
    )
    code, out, err = people.run()
    assert (code, err) == (0, "")
    assert "30 cases, 15 patients" in out
    cases = people.opened().cases
    assert set(cases["vendor"]) == {"B"}
    assert set(cases["split"]) == {"test"}


def test_a_vendor_that_nobody_has_and_a_patient_of_two_are_one_line(people):
    people.edit(
        "labels = {", 'splits = { leave_out = { vendor = "b" } }\nsplit = "test"\nlabels = {'
    )
    (line,) = said_by_both(people)
    assert line == "rbmed: splits: leave_out: no case has vendor 'b'; known: A, B"
    people.edit('"b"', '"B"')
    people.edit_table(lambda lines: [
        line.replace("Y,A", "Y,B") if line.startswith("case6,") else line for line in lines
    ])  # fmt: skip
    (line,) = said_by_both(people)
    assert "patient 'patient6': vendor is 'B' (line 8) and 'A' (line 48), so on both sides" in line
