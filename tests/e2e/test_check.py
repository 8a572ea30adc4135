"""`rbmed check` says what a plan's groups can show and what its splits share; runs keep count."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPLITS = 'splits = { train = 0.5, test = 0.5 }\nsplit = "test"\nlabels = {'


def looks(study):
    return study.opened().manifest["looks"]


def against(study):
    """Hold the tested split against the one that would be trained on."""
    study.edit("seed = 3", 'seed = 3\nagainst = "train"')
    study.edit("labels = {", SPLITS)


def test_what_the_page_shows_is_what_is_printed(study):
    _, out, err = study.rbmed("check", study.plan)
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    (shown,) = [b for b in re.findall(r"^```text\n(.*?)^```", page, re.M | re.S) if "smallest" in b]
    assert shown in out
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80


def test_the_same_comes_as_json(study):
    _, out, err = study.rbmed("check", study.plan, "--json")
    found = json.loads(out)
    assert err == ""
    assert [(g["group"], g["patients"]) for g in found["groups"]] == [
        ("F", 14), ("M", 13), ("not recorded", 13),
    ]  # fmt: skip
    assert found["groups"][0]["gap"] == pytest.approx(0.469, abs=5e-4)
    assert found["assumed"]["comparisons"] == 3
    assert found["split"] is None
    assert found["warnings"] == []


def test_a_group_that_will_not_be_shown_has_no_gap(study):
    study.edit_table(lambda lines: lines[:25])
    _, out, _ = study.rbmed("check", study.plan, "--json")
    assert {group["gap"] for group in json.loads(out)["groups"]} == {None}
    _, out, _ = study.rbmed("check", study.plan)
    assert out.count("<10  fewer than 10 patients: will not be shown") == 3


def test_too_few_patients_are_warned_of(study):
    study.edit_table(lambda lines: lines[:15])
    code, out, _ = study.rbmed("check", study.plan)
    assert code == 0
    assert "warning: cohort: expected at least 20 patients, got 14" in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_attribute_of_many_small_groups_is_warned_of(study):
    study.edit_table(
        lambda lines: [
            lines[0],
            *(f"{line.rpartition(',')[0]},s{i}" for i, line in enumerate(lines[1:])),
        ]
    )
    study.edit('subgroups = ["sex"]', 'subgroups = ["site"]')
    _, out, _ = study.rbmed("check", study.plan)
    assert "warning: subgroups: 'site' has 40 groups" in out


def test_what_the_splits_share_is_told_at_check_and_kept_with_the_run(study):
    against(study)
    text = (study.folder / "data" / "cases.csv").read_text(encoding="utf-8")
    code, out, _ = study.rbmed("check", study.plan, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["split"]["leaks"]["cases"] == 0
    assert told["told"][-1] in " ".join(study.rbmed("check", study.plan)[1].split())
    study.run()
    manifest = study.opened().manifest
    assert manifest["split"] == told["split"]
    assert manifest["digests"]["against"] is not None
    (study.folder / "data" / "cases.csv").write_text(text, encoding="utf-8")
    before = (study.folder / "run" / "manifest.json").read_bytes()
    study.run()
    assert (study.folder / "run" / "manifest.json").read_bytes() == before


def test_an_image_in_both_splits_is_found(study):
    study.edit("seed = 3", 'seed = 3\nagainst = "train"')
    study.edit("labels = {", 'splits = { column = "site" }\nsplit = "test"\nlabels = {')
    study.edit('attributes = ["sex", "site"]', 'attributes = ["sex"]')
    split = ["test", "train"]
    study.edit_table(
        lambda lines: [
            lines[0],
            *(f"{line.rpartition(',')[0]},{split[i % 2]}" for i, line in enumerate(lines[1:])),
        ]
    )
    images = study.folder / "data" / "images"
    (images / "7.png").write_bytes((images / "4.png").read_bytes())
    _, out, _ = study.rbmed("check", study.plan, "--json")
    assert json.loads(out)["split"]["leaks"]["counts"]["identical"]["cases"] == 1
    _, out, _ = study.run()
    assert "LEAK: 1 of 20 test cases" in " ".join(out.split())
    policy = study.folder / "policy.toml"
    policy.write_text(
        '[[rule]]\nid = "a"\nprobe = "clean"\nmetric = "correct"\nfloor = 0.1\n', encoding="utf-8"
    )
    _, out, _ = study.rbmed("gate", study.folder / "run", policy)
    assert "LEAK: 1 of 20 test cases" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_the_audit_is_not_made_again_when_only_the_model_changed(study, monkeypatch):
    against(study)
    study.run()
    first = study.opened().manifest["split"]
    monkeypatch.setattr("robustbench_med.overlap.audit.audit", None)
    study.edit_model("\n# another model\n")
    study.edit("steps = 5", "steps = 6")
    assert study.run()[0] == 0
    assert study.opened().manifest["split"] == first


def test_each_different_look_at_the_same_cases_counts_once(study):
    study.run()
    assert looks(study) == {"number": 1, "models": 1, "intact": True}
    study.run()
    study.edit("steps = 5", "steps = 6")
    study.run()
    assert looks(study) == {"number": 2, "models": 1, "intact": True}
    model = study.folder / "study_model.py"
    model.write_text(model.read_text().replace("-5.0", "-5.1"), encoding="utf-8")
    study.edit_model("")
    study.rbmed("run", study.plan, "--out", study.folder / "other", "--quiet")
    manifest = json.loads((study.folder / "other" / "manifest.json").read_text())
    assert manifest["looks"] == {"number": 3, "models": 2, "intact": True}
    assert len((study.folder / "ledger.jsonl").read_text().splitlines()) == 3
    report = (study.folder / "other" / "report.html").read_text(encoding="utf-8")
    assert "This is look number 3 at these cases, by 2 different models so far." in report


def test_a_torn_ledger_is_told_in_the_report_and_ends_nothing(study):
    (study.folder / "ledger.jsonl").write_text('{"time": "2026', encoding="utf-8")
    assert study.run()[0] == 0
    assert looks(study) == {"number": 1, "models": 1, "intact": False}
    assert "The ledger of looks is not whole" in study.report()


def test_a_ledger_that_cannot_be_written_is_told_before_anything_is_computed(study):
    (study.folder / "ledger.jsonl").mkdir()
    (line,) = study.refused_run()
    assert "ledger.jsonl: cannot be written" in line
    assert not (study.folder / "run").exists()


def test_weights_that_a_training_starts_from_and_are_not_there_are_told(study):
    stages = ROOT / "examples" / "systems" / "tl_2_predictor.toml"
    text = stages.read_text(encoding="utf-8")
    text = re.sub(r"^patients = .*$", "patients = { train = 2, test = 20 }", text, flags=re.M)
    study.plan.write_text(text, encoding="utf-8")
    code, out, _ = study.rbmed("check", study.plan)
    assert code == 0
    start = study.folder.parent / "weights" / "tl_1_autoencoder.safetensors"
    assert "is not there yet; train it first" in out
    assert start.name in out
