"""Run folders and policies that are wrong, altered or cannot be written."""

import json
import os

import pandas as pd
import pytest

import robustbench_med as rb

STOPS = """

class Stops(Mean):
    '''Is interrupted at its hundredth image.'''

    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, image):
        self.asked += len(image)
        if self.asked > 100:
            raise KeyboardInterrupt
        return super().forward(image)


def stops():
    return Stops()
"""


@pytest.fixture
def small(study):
    study.edit_table(lambda lines: lines[:13])
    return study


def cells(study):
    found = sorted((study.folder / "run" / "records").glob("*.parquet"))
    return {path: path.read_bytes() for path in found}


def gate(study, code):
    return study.refused(code, "gate", study.folder / "run", study.folder / "policy.toml")


def test_a_file_where_the_folder_should_be_is_named_and_kept(small):
    run = small.folder / "run"
    run.write_text("mine")
    (said,) = small.refused_run()
    assert f"cannot be written: File exists: {run}; give a folder that can be written to" in said
    assert run.read_text() == "mine"
    (said,) = small.refused(2, "run", small.plan, "--out", run / "deeper", "--quiet")
    assert str(run) in said
    assert "cannot be written: " in said


def test_a_folder_that_fails_in_the_middle_continues(small):
    run = small.folder / "run"
    run.mkdir()
    (run / "records").write_text("in the way")
    (said,) = small.refused_run()
    assert "cannot be written" in said
    assert small.opened().manifest["state"] == "interrupted"
    (run / "records").unlink()
    assert small.run()[0] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_read_only_folder_is_named(small):
    run = small.folder / "run"
    run.mkdir(mode=0o500)
    (said,) = small.refused_run()
    assert f"{run}/manifest.json: cannot be written: Permission denied" in said
    run.chmod(0o700)


def test_a_folder_of_another_plan_is_refused_and_kept(small):
    small.run()
    before = cells(small), small.opened().manifest
    small.edit('name = "squares"', 'name = "circles"')
    (said,) = small.refused_run()
    assert "its name is 'squares', this plan's is 'circles'; give another folder" in said
    small.edit('name = "circles"', 'name = "squares"')
    small.edit("dark = 0", "Dark = 0")
    (said,) = small.refused_run()
    assert "its cohort's labels is {'bright': 1, 'dark': 0}" in said
    assert "'Dark'" in said
    assert (cells(small), small.opened().manifest) == before
    small.edit("Dark = 0", "dark = 0")
    assert small.run()[0] == 0
    assert (cells(small), small.opened().manifest) == before


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("cut short", "another plan"),
        ("one byte", "the same plan"),
        ("emptied", "the same plan"),
        ("another table", "the same plan"),
    ],
)
def test_a_damaged_cell_is_named_and_its_repair_continues(small, change, again):
    small.run()
    before, records = cells(small), small.opened().records
    path, content = next(iter(before.items()))
    if change == "another table":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    else:
        changed = {"cut short": content[:-100], "emptied": b"",
                   "one byte": content[:60] + bytes([content[60] ^ 1]) + content[61:]}  # fmt: skip
        path.write_bytes(changed[change])
    if again == "another plan":
        small.edit("severities = [1]", "severities = [1, 2]")
    (said,) = small.refused_run(4)
    assert str(path) in said
    assert "delete it and run again" in said
    assert small.opened().manifest["state"] == "complete"
    assert small.opened().records.equals(records)
    path.unlink()
    assert small.run()[0] == 0
    after = cells(small)
    assert pd.read_parquet(path).equals(records_of(before[path], small.folder))
    assert all(after[other] == before[other] for other in before if other != path)


def records_of(content, folder):
    (folder / "cell.parquet").write_bytes(content)
    return pd.read_parquet(folder / "cell.parquet")


@pytest.mark.parametrize("name", ["records.parquet", "failures.parquet"])
def test_a_damaged_table_is_made_again_from_the_cells(small, name):
    small.run()
    path = small.folder / "run" / name
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(rb.errors.IntegrityError, match=f"{name}: altered since the run wrote it"):
        small.opened()._table(name)
    assert small.run()[0] == 0
    assert path.read_bytes() == content


def test_a_gate_on_a_folder_that_is_no_run_is_refused(small):
    (said,) = gate(small, 2)
    assert "expected a run folder with manifest.json, found none" in said
    run = small.folder / "run"
    run.mkdir()
    for text, words in (
        ("{", "manifest.json: not JSON"),
        ("[]", "expected the manifest of a run, found no 'schema_version'"),
        ('{"schema_version": 1}', "expected the manifest of a run, found no 'name'"),
    ):
        (run / "manifest.json").write_text(text)
        (said,) = gate(small, 2)
        assert words in said
        assert small.refused_run() == [said]
        with pytest.raises(rb.errors.InputError):
            rb.Run.open(run)


def test_a_folder_of_a_later_release_is_left_alone(small):
    small.run()
    path = small.folder / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    (said,) = gate(small, 2)
    assert "expected schema version 1, got 99; read it with the release that wrote it" in said
    assert small.refused_run() == [said]


def test_a_gate_on_an_interrupted_run_says_so_and_the_run_continues(small):
    small.edit_model(STOPS)
    small.edit('use = "study_model:load"', 'use = "study_model:stops"')
    small.edit('[[certificate]]\nuse = "ibp"\nball = { norm = "linf", eps = 0.02 }', "")
    small.edit("{ cases = 16, queries = 20 }", "false")  # the model would be interrupted again
    (said,) = small.refused_run(5)
    assert "cells are stored in" in said
    assert "the same command continues" in said
    assert small.opened().manifest["state"] == "interrupted"
    stored = cells(small)
    assert 0 < len(stored) < 4
    (said,) = gate(small, 5)
    assert "interrupted" in said
    (said,) = small.refused(5, "report", small.folder / "run")
    assert "interrupted" in said
    assert small.run()[0] == 0
    after = cells(small)
    assert all(after[path] == content for path, content in stored.items())


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"clean"', '"claen"', ("rule 'accuracy': the run has no probe 'claen'; "
                               "did you mean 'clean'?")),
        ('"correct"', '"corect"', ("rule 'accuracy': probe 'clean' has no metric 'corect'; "
                                  "did you mean 'correct'?")),
        ("floor = 0.9", 'floor = 0.9\nsubgroup = "sexx"', ("the run has no subgroup 'sexx'; "
                                                          "did you mean 'sex'?")),
        ("floor = 0.9", 'floor = 0.9\nserverity = "warn"', ("unknown key 'serverity'; "
                                                           "did you mean 'severity'?")),
        ("floor = 0.9", "", "expected exactly one of floor, ceiling, margin, got none"),
        ("floor = 0.9", "floor = = 0.9", "not TOML"),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_fit_is_one_line(small, old, new, line):
    small.run()
    before = cells(small)
    policy = small.folder / "policy.toml"
    policy.write_text(policy.read_text().replace(old, new))
    (said,) = gate(small, 2)
    assert line in said
    assert cells(small) == before


def test_a_policy_that_is_not_there_is_named(small):
    small.run()
    (small.folder / "policy.toml").unlink()
    (said,) = gate(small, 2)
    assert "policy.toml: cannot be read: No such file or directory" in said
