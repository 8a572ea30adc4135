"""The section on train and test says what the audit found, how surely, and names no case."""

import json
from types import SimpleNamespace

import pytest

from robustbench_med.reports.split import leak, split
from robustbench_med.reports.wording import DASH

HOSTILE = "<script>\u202e\x00"


def trait(name="site", p=0.5, **more):
    shares = [
        {"value": "north", "test": 0.6, "train": 0.5, "test_patients": 60, "train_patients": 100},
        {"value": "other values", "test": None, "train": 0.5, "test_patients": None,
         "train_patients": 100},
    ]  # fmt: skip
    made = {"name": name, "kind": "shares", "distance": 0.1, "chance": 0.12, "p": p, "p_holm": p}
    return {**made, "values": shares, **more}


def feature(name="noise", p=0.5, distance=-0.4):
    side = {"patients": 80, "low": 0.1, "median": 0.2, "high": 0.3}
    return {"name": name, "kind": "number", "distance": distance, "chance": 0.2, "p": p,
            "p_holm": p, "test": None, "train": side}  # fmt: skip


def audit(**more):
    counts = {kind: {"cases": 0, "patients": 0} for kind in ("patient", "identical", "near")}
    near = {"limit": 0.7, "typical": 0.2, "unrelated": 188, "doubled": 0, "compared": 90,
            "reason": "",
            "planted": {"unchanged": [30, 30], "JPEG at quality 50": [27, 30]}}  # fmt: skip
    leaks = {"cases": 0, "counts": counts, "listed": [], "near": near,
             "within": {"identical": 0, "near": 0}, "blank": {"test": 0, "train": 3}}  # fmt: skip
    made = {
        "version": 1, "leaks": leaks,
        "test": {"name": "t", "cases": 120, "patients": 100},
        "train": {"name": "t", "cases": 300, "patients": 200},
        "attributes": [trait()], "labels": [], "features": [feature()], "confounding": [],
        "separation": {"auc": 0.52, "chance": 0.58, "p": 0.4, "patients": 300},
    }  # fmt: skip
    return {**made, **more}


def shown(made):
    json.dumps(made, allow_nan=False)
    return split(SimpleNamespace(manifest={"split": made}))


def text(section):
    rows = [cell for table in section.tables for row in table.rows for cell in row]
    return "\n".join([*section.paragraphs, *(t.caption for t in section.tables), *rows])


@pytest.mark.parametrize("manifest", [{}, {"split": None}])
def test_a_run_that_compared_nothing_says_so_and_how_to_ask(manifest):
    section = split(SimpleNamespace(manifest=manifest))
    assert (section.name, section.title, section.tables) == ("split", "Train and test", ())
    assert 'against = "train"' in section.paragraphs[0]


def test_without_leaks_it_says_what_was_looked_for_and_how_surely_it_would_be_found():
    section = shown(audit())
    assert section.paragraphs[0].startswith("No leak was found: none of 120 test cases")
    assert "of 60 planted copies of training images, 57 were found (95.0%)" in section.paragraphs[1]
    assert "fewer than one audit in twenty" in section.paragraphs[1]
    assert "Poorly found" not in section.paragraphs[1]
    planted = next(t for t in section.tables if t.caption.startswith("Planted copies"))
    assert planted.rows[1] == ("JPEG at quality 50", "30", "27", "90.0%")


def test_changes_that_hide_a_copy_are_named():
    made = audit()
    made["leaks"]["near"]["planted"]["2% cropped"] = [3, 20]
    said = shown(made).paragraphs[1]
    assert "Poorly found: 2% cropped (3 of 20). Larger crops" in said


def test_leaks_are_counted_by_kind_and_no_case_is_named():
    made = audit()
    made["leaks"] = {
        **made["leaks"], "cases": 7, "within": {"identical": 1, "near": 2},
        "counts": {"patient": {"cases": 4, "patients": 2}, "identical": {"cases": 0, "patients": 0},
                   "near": {"cases": 3, "patients": 3}},
        "near": {**made["leaks"]["near"], "doubled": 12},
        "listed": [{"kind": "near", "test": "case-17", "train": "case-99", "likeness": 0.9,
                    "turned": "rotated by 90 degrees"}],
    }  # fmt: skip
    section = shown(made)
    assert section.paragraphs[0].startswith("LEAK: 7 of 120 test cases")
    assert "patient in both splits: 4, identical image: 0, changed copy: 3" in section.paragraphs[0]
    assert any("3 pairs of images under different patient ids" in p for p in section.paragraphs)
    assert any("Of 200 training images that were drawn, 12 have a" in p for p in section.paragraphs)
    assert section.tables[0].tones == ("warning", "", "warning")
    assert [row[2:] for row in section.tables[0].rows] == [("4", "2"), ("0", "0"), ("3", "3")]
    assert "case-17" not in text(section)
    assert "case-99" not in text(section)


def test_where_copies_could_not_be_looked_for_none_are_said_to_be_absent():
    made = audit()
    near = {**made["leaks"]["near"], "reason": "the training split has 7 patients", "planted": {},
            "limit": None, "typical": None}  # fmt: skip
    made["leaks"] = {**made["leaks"], "near": near, "blank": {"test": 5, "train": 0}}
    section = shown(made)
    assert "Changed copies were not looked for: the training split has 7" in section.paragraphs[1]
    assert [row[0] for row in section.tables[0].rows] == [
        "patient in both splits", "identical image"
    ]  # fmt: skip
    assert "5 test images of one grey value" in section.tables[0].caption
    assert "changed copy" not in section.paragraphs[0]


def test_differences_and_confounding_are_named_where_they_are_real_and_only_there():
    pair = {"attribute": "site", "label": "class", "v": 0.6, "chance": 0.2, "p": 0.001,
            "p_holm": 0.002, "patients": 100}  # fmt: skip
    weak = {**pair, "attribute": "sex", "p_holm": 0.4}
    section = shown(audit(attributes=[trait(p=0.01), trait("sex", 0.3)], confounding=[weak, pair]))
    said = "\n".join(section.paragraphs)
    assert "not like the training patients in site. The results hold" in said
    assert "Among the tested patients, site goes with class: a gap between such groups" in said
    assert "sex goes" not in said
    table = next(t for t in section.tables if t.columns[0] == "Attribute")
    assert [row[0] for row in table.rows] == ["site", "sex"]
    assert table.tones == ("warning", "")
    quiet = "\n".join(shown(audit()).paragraphs)
    assert "No difference in recorded attributes or truth was found" in quiet
    assert "No recorded attribute was found to go with the truth" in quiet


def test_the_feature_test_is_told_in_counts_and_directions():
    apart = {"auc": 0.741, "chance": 0.561, "p": 0.002, "patients": 300}
    features = [feature(p=0.001), feature("sharpness", 0.01, 0.5), feature("height", 0.9, None)]
    said = "\n".join(shown(audit(separation=apart, features=features)).paragraphs)
    assert (
        "it named the right one 74 times in 100; guessing gives 50, and by chance up to 56" in said
    )
    assert "noise (lower in the test), sharpness (higher in the test)" in said
    assert "height" not in said
    assert "could not tell the splits' images apart" in "\n".join(shown(audit()).paragraphs)
    assert "Too few patients to ask" in "\n".join(shown(audit(separation=None)).paragraphs)


def test_fewer_than_ten_patients_are_not_counted_out_and_foreign_text_is_one_line():
    section = shown(audit(attributes=[trait(HOSTILE, 0.001)], labels=[feature("size of lv")]))
    values = next(t for t in section.tables if t.caption.startswith("Patients by value"))
    assert values.rows[1][2:] == (DASH, "<10", "50.0%", "100")
    assert values.rows[2][2:] == (DASH, "<10", "0.200, 0.100 to 0.300", "80")
    assert "\u202e" not in text(section)
    assert "\x00" not in text(section)
    assert all(len(row) == len(table.columns) for table in section.tables for row in table.rows)
    assert all(len(t.tones) in (0, len(t.rows)) for t in section.tables)


def leaking(**more):
    counts = {kind: {"cases": 0, "patients": 0} for kind in ("patient", "identical", "near")}
    made = audit(**more)
    counts["patient"] = {"cases": 7, "patients": 5}
    return {**made, "leaks": {**made["leaks"], "cases": 7, "counts": counts}}


def test_a_leak_is_told_in_one_paragraph_and_nothing_where_there_is_none():
    told = leak({"split": leaking()})
    assert told.startswith("LEAK: 7 of 120 test cases are known from 300 training cases")
    assert leak({"split": audit()}) == leak({"split": None}) == leak({}) == ""


def test_the_split_that_is_compared_with_has_its_own_name():
    assert "training" in text(shown(leaking()))
    other = text(shown(leaking(against="val")))
    assert "training" not in other.lower()
    assert "known from 300 'val' cases" in other
    assert "Leaks from the 'val' split into the test" in other
