"""Who is who in a folder: splits by an attribute, ages, and patients who contradict themselves."""

import csv
from itertools import product

import numpy as np
import pytest
from PIL import Image

from robustbench_med.cohorts.age import years
from robustbench_med.cohorts.folder import load_folder
from robustbench_med.errors import InputError

COLUMNS = {"case": "id", "patient": "who", "image": "file", "target": "bad"}
HEADER = ["id", "who", "file", "bad", "sex", "age", "vendor"]
BANDS = {"age_band": {"column": "age", "edges": [0, 40, 120]}}


def load(root, rows, **settings):
    """Load cases of (patient, sex, age, vendor)."""
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "i.png")
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        lines = [[f"c{i}", row[0], "i.png", i % 2, *row[1:]] for i, row in enumerate(rows)]
        csv.writer(file).writerows([HEADER, *lines])
    given = {"attributes": ["sex", "vendor"], "bands": BANDS, "labels": {"no": 0, "yes": 1}}
    return load_folder(folder=str(root), task="classification", columns=COLUMNS,
                       **{**given, **settings})  # fmt: skip


def refused(root, rows, **settings):
    with pytest.raises(InputError) as caught:
        load(root, rows, **settings)
    return str(caught.value).splitlines()


def patients(cohort):
    return [case.patient_id for case in cohort.cases]


ROWS = [
    ["p0", "F", "30", "A"],
    ["p0", "F", "31", "C"],
    ["p1", "M", "50", "B"],
    ["p2", "", "60", "B"],
    ["p2", "F", "60", ""],
    ["p3", "M", "70", ""],
]


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        ({"leave_out": {"vendor": "B"}}, ["p0", "p0"], ["p1", "p2", "p2"]),
        ({"train_on": {"vendor": ["B"]}}, ["p1", "p2", "p2"], ["p0", "p0"]),
        ({"leave_out": {"vendor": ["A", "C"]}}, ["p1", "p2", "p2"], ["p0", "p0"]),
        ({"leave_out": {"vendor": "B"}, "unknown": "train"}, ["p0", "p0", "p3"],
         ["p1", "p2", "p2"]),
        ({"leave_out": {"vendor": "B"}, "unknown": "test"}, ["p0", "p0"],
         ["p1", "p2", "p2", "p3"]),
        ({"train_on": {"sex": "F"}}, ["p0", "p0", "p2", "p2"], ["p1", "p3"]),
        ({"train_on": {"age_band": "0-40"}}, ["p0", "p0"], ["p1", "p2", "p2", "p3"]),
        ({"leave_out": {"age": [50, "60.0"]}}, ["p0", "p0", "p3"], ["p1", "p2", "p2"]),
    ],
)  # fmt: skip
def test_sides_are_by_patient(tmp_path, splits, train, test):
    for split, expected in (("train", train), ("test", test)):
        cohort = load(tmp_path, ROWS, splits=splits, split=split)
        assert patients(cohort) == expected
        assert {case.attributes["split"] for case in cohort.cases} == {split}
    assert sorted(patients(load(tmp_path, ROWS, splits=splits))) == sorted(train + test)


def test_a_number_counts_alike_whether_its_column_is_an_attribute_or_not(tmp_path):
    rows = [["p0", "F", "50.0", "A"], ["p1", "F", "70", "A"]]
    for attributes, value in product((["age"], []), (50, "50", "50.0")):
        settings = {"attributes": attributes, "splits": {"leave_out": {"age": value}}}
        assert patients(load(tmp_path, rows, split="test", **settings)) == ["p0"]


def test_a_validation_split_is_drawn_from_the_training_side_patient_by_patient(tmp_path):
    rows = [[f"p{i // 2}", "FM"[i // 2 % 2], "50", "A"] for i in range(400)]
    splits = {"train_on": {"sex": "F"}, "val": 0.3, "seed": 2}
    parts = {
        split: set(patients(load(tmp_path, rows, splits=splits, split=split)))
        for split in ("train", "val", "test")
    }
    assert parts["test"] == {f"p{i}" for i in range(1, 200, 2)}
    assert len(parts["train"]) + len(parts["val"]) == 100
    assert not parts["train"] & parts["val"]
    assert 15 <= len(parts["val"]) <= 45
    again = load(tmp_path, rows, splits={**splits, "seed": 3}, split="val")
    assert set(patients(again)) != parts["val"]
    fewer = load(tmp_path, rows[:100], splits=splits, split="val")
    assert set(patients(fewer)) == parts["val"] & {f"p{i}" for i in range(50)}


def test_only_the_files_of_the_side_that_is_loaded_are_opened(tmp_path):
    rows = ROWS[:3]
    load(tmp_path, rows)
    text = (tmp_path / "cases.csv").read_text(encoding="utf-8")
    (tmp_path / "cases.csv").write_text(text.replace("p1,i.png", "p1,gone.png"), encoding="utf-8")
    settings = {
        "folder": str(tmp_path), "task": "classification", "columns": COLUMNS,
        "labels": {"no": 0, "yes": 1}, "splits": {"leave_out": {"vendor": "B"}},
    }  # fmt: skip
    assert len(load_folder(**settings, split="train")) == 2
    with pytest.raises(InputError, match=r"gone.png: no such file"):
        load_folder(**settings, split="test")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"leave_out": {"vendor": "D"}},
         "splits: leave_out: no case has vendor 'D'; known: A, B, C"),
        ({"leave_out": {"vendor": ["B", "b2"]}},
         "splits: leave_out: no case has vendor 'b2'; known: A, B, C"),
        ({"leave_out": {"vendr": "B"}},
         ("splits: leave_out: {root}/cases.csv has no column and no band 'vendr'; "
          "did you mean 'vendor'?")),
        ({"leave_out": {"age_bnd": "0-40"}},
         ("splits: leave_out: {root}/cases.csv has no column and no band 'age_bnd'; "
          "did you mean 'age_band'?")),
        ({"leave_out": {}},
         ("splits: leave_out: expected one attribute with a value or a list of them, such as "
          '{{ vendor = "B" }}, got {{}}')),
        ({"leave_out": {"vendor": []}},
         ("splits: leave_out: expected one attribute with a value or a list of them, such as "
          '{{ vendor = "B" }}, got {{\'vendor\': []}}')),
        ({"train_on": {"sex": "F", "vendor": "B"}},
         ("splits: train_on: expected one attribute with a value or a list of them, such as "
          '{{ vendor = "B" }}, got {{\'sex\': \'F\', \'vendor\': \'B\'}}')),
        ({"leave_ot": {"vendor": "B"}}, "splits: no 'leave_ot'; did you mean 'leave_out'?"),
        ({"leave_out": {"vendor": "B"}, "vall": 0.1}, "splits: no 'vall'; did you mean 'val'?"),
        ({"leave_out": {"vendor": "B"}, "val": 1},
         "splits: val: expected a share from 0 to below 1, got 1"),
        ({"leave_out": {"vendor": "B"}, "seed": 0.5}, "splits: seed must be an integer, got 0.5"),
        ({"leave_out": {"vendor": "B"}, "unknown": "val"},
         "splits: unknown: expected train or test, got 'val'"),
        ({"leave_out": {"vendor": "B"}, "train_on": {"sex": "F"}},
         "splits: expected one of leave_out and train_on, got both"),
    ],
)  # fmt: skip
def test_a_side_that_cannot_be_is_one_line(tmp_path, splits, message):
    said = refused(tmp_path, ROWS, splits=splits, split="test")
    assert said == [message.format(root=tmp_path)]


def test_all_mistakes_of_a_side_are_told_at_once(tmp_path):
    splits = {"leave_out": 3, "val": "x", "seed": "x", "unknown": 3, "x": 1}
    assert len(refused(tmp_path, ROWS, splits=splits)) == 5


def test_a_patient_on_both_sides_is_named_with_its_lines(tmp_path):
    rows = [*ROWS, ["p1", "M", "50", "A"]]
    assert refused(tmp_path, rows, splits={"leave_out": {"vendor": "B"}}) == [
        (
            "cases.csv: patient 'p1': vendor is 'B' (line 4) and 'A' (line 8), so on both sides "
            "of leave_out; mend the table, or drop some of the cases with where"
        )
    ]
    rows = [["p0", "F", "30", "A"], ["p0", "F", "31", "B"], ["p1", "M", "50", "C"]]
    assert len(load(tmp_path, rows, splits={"leave_out": {"vendor": "C"}}, split="train")) == 2


def test_patients_of_unknown_side_are_counted_where_a_split_is_left_empty(tmp_path):
    rows = [["p0", "F", "30", "B"], ["p1", "F", "30", ""], ["p2", "F", "30", ""]]
    splits = {"leave_out": {"vendor": "B"}}
    assert refused(tmp_path, rows, splits=splits, split="train") == [
        (
            "split: 'train' has no cases; 2 patients without vendor are in no split: state "
            'unknown = "train" or "test" to place them'
        )
    ]
    said = refused(tmp_path, rows, splits={**splits, "unknown": "test"}, split="train")
    assert said == ["split: 'train' has no cases"]
    assert len(load(tmp_path, rows, splits={**splits, "unknown": "train"}, split="train")) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("058Y", 58), ("006M", 0.5), ("000D", 0), ("012W", 84 / 365.25), ("003D", 3 / 365.25)],
)
def test_an_age_as_dicom_writes_it_is_in_years(text, expected):
    assert years(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["58Y", "0058Y", "058y", "058", "Y058", "058 Y", "\u0660\u0661\u0662Y", ""]
)
def test_any_other_word_is_no_age(text):
    assert years(text) is None


def test_ages_of_both_kinds_fall_into_bands(tmp_path):
    ages = ["058Y", "006M", "039Y", "40", "", "500W"]
    cohort = load(tmp_path, [[f"p{i}", "F", age, "A"] for i, age in enumerate(ages)])
    assert [case.attributes["age_band"] for case in cohort.cases] == [
        "40-120", "0-40", "0-40", "40-120", None, "0-40",
    ]  # fmt: skip


def test_all_bad_ages_are_told_at_once_with_line_column_value_and_what_was_expected(tmp_path):
    ages = ["400", "old", "30", "58Y", "121Y", "-3"]
    rows = [[f"p{i}", "F", age, "A"] for i, age in enumerate(ages)]
    advice = "; mend or empty the cell, or add an edge"
    assert refused(tmp_path, rows, splits={"leave_out": {"age_band": "40-120"}}) == [
        f"cases.csv line 2: age_band: age: expected 0 to 120, got '400'{advice}",
        "cases.csv line 3: age_band: age: expected a number, or an age such as 058Y, got 'old'",
        "cases.csv line 5: age_band: age: expected a number, or an age such as 058Y, got '58Y'",
        f"cases.csv line 6: age_band: age: expected 0 to 120, got '121Y'{advice}",
        f"cases.csv line 7: age_band: age: expected 0 to 120, got '-3'{advice}",
    ]


TWO_SEXES = [
    ["P6", "F", "30", "A"], ["P7", "F", "30", "A"], ["P6", "M", "31", "B"], ["P7", "", "50", "B"],
    ["P7", "F", "50", "B"], ["P8", "M", "50", "B"],
]  # fmt: skip


def test_a_patient_of_two_sexes_is_refused_and_may_change_in_age_and_vendor(tmp_path):
    line = (
        "cases.csv: patient 'P6': sex is 'F' (line 2) and 'M' (line 4); mend the table, or state "
        "an of_patient without 'sex'"
    )
    assert refused(tmp_path, TWO_SEXES) == [line]
    assert refused(tmp_path, TWO_SEXES, of_patient=["sex"]) == [line]
    splits = {"train": 0.5, "test": 0.5}
    assert line in refused(tmp_path, TWO_SEXES, splits=splits, split="test")
    assert len(load(tmp_path, TWO_SEXES, of_patient=[])) == 6
    assert len(load(tmp_path, TWO_SEXES, attributes=["vendor"])) == 6
    assert len(load(tmp_path, TWO_SEXES, where={"vendor": "B"})) == 4


def test_one_line_is_told_for_each_patient_and_attribute(tmp_path):
    said = refused(tmp_path, TWO_SEXES, of_patient=["age_band", "vendor"])
    assert [line.split(";")[0] for line in said] == [
        "cases.csv: patient 'P7': age_band is '0-40' (line 3) and '40-120' (line 5)",
        "cases.csv: patient 'P6': vendor is 'A' (line 2) and 'B' (line 4)",
        "cases.csv: patient 'P7': vendor is 'A' (line 3) and 'B' (line 5)",
    ]
    rows = [["P", "F", str(30 + i), f"v{i}"] for i in range(9)]
    (line,) = refused(tmp_path, rows, of_patient=["vendor"])
    assert "'v0' (line 2) and 'v1' (line 3) and 'v2' (line 4) and 6 more; mend" in line


@pytest.mark.parametrize(
    ("of_patient", "message"),
    [
        (["sexx"], "of_patient: no attribute 'sexx'; did you mean 'sex'?"),
        (["age"], "of_patient: no attribute 'age'; known: sex, vendor, age_band"),
        ("sex", "of_patient: expected names of attributes, got 'sex'"),
        ([3], "of_patient: expected names of attributes, got [3]"),
    ],
)
def test_an_of_patient_that_names_no_attribute_is_refused(tmp_path, of_patient, message):
    assert refused(tmp_path, ROWS, of_patient=of_patient) == [message]
