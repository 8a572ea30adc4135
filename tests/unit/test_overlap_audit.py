"""The audit as a whole: what it finds, what it says, what it keeps to itself."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.errors import InputError
from robustbench_med.overlap import audit as module
from robustbench_med.overlap.audit import audit, lines

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("overlap_fixture.py"))))
field, split, case, with_cases = MADE.field, MADE.split, MADE.case, MADE.with_cases


def moved(number):
    """The site goes with the class; the age does not; both are known of nearly all."""
    ages = 40.5 + number * 7 % 31
    return {
        "site": "NS"[number % 2],
        "age": None if number == 3 else ages,
        "sex": "FM"[number // 2 % 2],
    }


def older(number):
    return {**moved(number), "age": 65.5 + number * 7 % 31, "sex": "F"}


@pytest.fixture(scope="module")
def made():
    train = split("train", 30, attributes=moved)
    test = split("test", 24, first=100, attributes=older)
    noise = np.random.default_rng(0)
    noisy = [
        replace(c, image=c.image + torch.from_numpy(noise.normal(0, 0.8, c.image.shape)).float())
        for c in test.cases
    ]
    copy = case("copy", "x", train.cases[4].image.flip(-1), site="N", age=70.5, sex="F")
    return audit(Cohort("test", test.task, test.bounds, [*noisy, copy]), train, seed=3)


def row(table, name):
    return next(row for row in table if row["name"] == name)


def test_the_audit_is_plain_json_without_undefined_numbers(made):
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["version"] == 1
    assert made["test"] == {"name": "test", "cases": 25, "patients": 25}
    assert made["train"] == {"name": "train", "cases": 30, "patients": 30}


def test_the_audit_finds_the_leak_the_shift_and_the_confounding_and_no_more(made):
    assert made["leaks"]["cases"] == 1
    assert made["leaks"]["counts"]["near"] == {"cases": 1, "patients": 1}
    assert [leak["test"] for leak in made["leaks"]["listed"]] == ["copy"]
    assert made["leaks"]["listed"][0]["turned"] == "mirrored left to right"
    assert row(made["attributes"], "age")["p_holm"] < 0.01
    assert row(made["attributes"], "age")["distance"] > 1
    assert row(made["attributes"], "sex")["p_holm"] < 0.01
    assert row(made["attributes"], "site")["p_holm"] > 0.05
    assert row(made["labels"], "class")["p_holm"] > 0.05
    assert row(made["features"], "noise")["distance"] > 1
    assert made["separation"]["p"] < 0.01
    assert made["separation"]["auc"] > 0.9
    pairs = {(p["attribute"], p["label"]) for p in made["confounding"] if p["p_holm"] < 0.05}
    assert pairs == {("site", "class")}


def test_the_lines_say_what_must_be_known_before_a_run(made):
    said = lines(made)
    assert said[0].startswith("LEAK: the training split knows 1 of 25 test cases (0 patient, 0 ide")
    assert "planted copies were found" in said[0]
    assert said[1] == "patients differ from training: age, sex"
    assert any(line.startswith("images differ from training: ") for line in said)
    assert any(line.startswith("images can be told from training images: AUC 0.9") for line in said)
    assert said[-1] == "a gap may be one between labels: site with class"


def test_two_like_splits_give_one_line():
    found = audit(split("test", 8, first=300), split("train", 22))
    assert found["separation"] is None
    assert found["attributes"] == found["confounding"] == []
    assert lines(found) == [
        "no leak from the training split found (220 of 220 planted copies were found)"
    ]


def test_where_nothing_could_be_calibrated_the_line_says_so():
    (said,) = lines(audit(split("test", 3, first=300), split("train", 4)))
    assert "no leak from the training split found (the training split has 4 patients" in said


def test_the_same_seed_gives_the_same_audit():
    test, train = split("test", 6, first=400), split("train", 5, attributes=moved)
    assert audit(test, train, seed=1) == audit(test, train, seed=1)


def test_many_leaks_are_counted_and_few_are_listed():
    images = [field(seed) for seed in range(15)]
    train = [case(f"a{i}", f"p{i}", image) for i, image in enumerate(images)]
    train += [case(f"b{i}", f"q{i}", image + 1) for i, image in enumerate(images)]
    test = [case(f"t{i}", f"p{i}", images[i] + 1) for i in range(15)]
    found = audit(
        Cohort("test", MADE.TASK, (-20, 20), test), Cohort("train", MADE.TASK, (-20, 20), train)
    )["leaks"]
    assert (
        found["counts"]["patient"] == found["counts"]["identical"] == {"cases": 15, "patients": 15}
    )
    assert found["cases"] == 15
    assert [leak["kind"] for leak in found["listed"]] == ["patient"] * 10 + ["identical"] * 10


def test_features_are_looked_at_in_some_cases_and_copies_in_all(monkeypatch):
    monkeypatch.setattr(module, "DRAWN", 5)
    train = split("train", 8)
    test = with_cases(split("test", 6, first=50), case("same", "x", train.cases[7].image.clone()))
    looked = []
    found = audit(test, train, on_progress=lambda *told: looked.append(told))
    assert found["leaks"]["counts"]["identical"]["cases"] == 1
    assert {(what, total) for what, _, total in looked} == {
        ("looking at test", 7), ("looking at train", 8),
    }  # fmt: skip
    assert row(found["features"], "noise")["test"] is None


def test_measured_cases_are_compared_by_their_truth():
    """The same heart, sampled along other lines."""
    task = Task("reconstruction")

    def measured(name, patient, seed, lines_):
        truth = torch.cat([field(seed), field(seed + 1)])
        mask = torch.zeros(1, 64, 64)
        mask[:, lines_] = 1
        image = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(seed)) * mask
        return Case(name, patient, image, truth, {"mask": mask})

    train = [measured(f"r{i}", f"r{i}", 10 * i, slice(0, 64, 3)) for i in range(24)]
    test = [measured("copy", "x", 50, slice(0, 64, 2)), measured("own", "y", 5000, slice(0, 64, 2))]
    found = audit(Cohort("test", task, (-9, 9), test), Cohort("train", task, (-9, 9), train))
    assert [leak["test"] for leak in found["leaks"]["listed"]] == ["copy"]
    assert found["labels"] == []


def test_an_empty_split_and_another_task_are_refused():
    train = split("train", 3)
    with pytest.raises(InputError, match="test split 'none': expected at least 1 case, got 0"):
        audit(Cohort("none", MADE.TASK, (0, 1), []), train)
    other = Cohort("other", Task("classification", ("x", "y")), (0, 1), train.cases)
    with pytest.raises(InputError, match="splits: expected one task"):
        audit(other, train)
