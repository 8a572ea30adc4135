"""A threshold is fixed on a split of its own, kept on the model's card, and used by the run."""

import json

import numpy as np
import pytest

import robustbench_med as rb

METRIC = '[[metrics]]\nuse = "detection"\nlabel = "bright"'
NAME = "detection_bright"
SPLITS = 'size = [32, 32]\nsplits = { train = 0.3, val = 0.4, test = 0.3 }\nsplit = "test"'
CALIBRATE = '[calibrate]\nsplit = "val"\nsensitivity = 0.8\n'


@pytest.fixture
def calibrated(study):
    """A plan that trains a network and fixes its threshold."""
    study.edit('use = "study_model:load"', 'use = "lenet"\npreset = "small"\n'
               'weights = "weights/lenet.safetensors"')  # fmt: skip
    study.edit('[[metrics]]\nuse = "correct"', f"{METRIC}\n\n[train]\nepochs = 1\n\n{CALIBRATE}")
    study.edit("labels = {", f"{SPLITS}\nlabels = {{")
    return study


def card(study):
    return json.loads((study.folder / "weights" / "lenet.json").read_text(encoding="utf-8"))


def metric(study):
    return study.opened().manifest["metrics"][NAME]


def probabilities(study, split):
    """Of the class, by the network itself, with the truth."""
    plan = rb.load_plan(study.plan)
    cohort = rb.build("cohorts", "folder", **{**plan.cohort.settings, "split": split})
    model = rb.load_model(plan.model, cohort=cohort, folder=study.folder)
    batch = next(cohort.batches(len(cohort)))
    return model(batch.image).softmax(dim=1)[:, 1].detach().double().numpy(), batch.target.numpy()


def test_the_threshold_is_that_of_the_rule_on_the_split_and_reaches_the_manifest(calibrated):
    code, out, _ = calibrated.rbmed("train", calibrated.plan, "--quiet")
    assert code == 0
    assert "split val, sensitivity at" in out
    assert max(map(len, out.splitlines()[1:])) <= 80
    point = card(calibrated)["operating_points"][NAME]
    score, truth = probabilities(calibrated, "val")
    positive = np.sort(score[truth == 1])[::-1]
    assert point["threshold"] == pytest.approx(positive[int(np.ceil(0.8 * len(positive))) - 1])
    assert (point["rule"], point["split"]) == ("sensitivity at least 0.8", "val")
    assert (point["patients"], point["positives"]) == (len(score), len(positive))
    assert point["low"] <= point["threshold"] <= point["high"]
    assert calibrated.run()[0] == 0
    found = metric(calibrated)
    assert (found["threshold"], found["reads"], found["label"]) == (
        point["threshold"], "detection", "bright",
    )  # fmt: skip
    assert found["threshold_from"].startswith("model card: split val, sensitivity at least 0.8, n=")
    assert calibrated.opened().manifest["metrics"]["correct"]["reads"] == ""


def test_trained_again_nothing_is_done_and_another_rule_moves_the_threshold_only(calibrated):
    calibrated.rbmed("train", calibrated.plan, "--quiet")
    before = card(calibrated)
    _, out, _ = calibrated.rbmed("train", calibrated.plan, "--quiet")
    assert "trained before" in out
    assert card(calibrated) == before
    assert calibrated.run()[0] == 0
    calibrated.edit("sensitivity = 0.8", "specificity = 0.5")
    line = "run rbmed train again"
    assert calibrated.refused_run()[0].endswith(line)
    assert calibrated.refused(2, "check", calibrated.plan)[0].endswith(line)
    _, out, _ = calibrated.rbmed("train", calibrated.plan, "--quiet", "--json")
    told = json.loads(out)
    assert not told["fresh"]
    after = card(calibrated)
    assert after.pop("operating_points")[NAME] == told["operating_points"][NAME]
    assert before.pop("operating_points")[NAME] != told["operating_points"][NAME]
    assert after == before
    records = (calibrated.folder / "run" / "records.parquet").read_bytes()
    assert calibrated.run()[0] == 0
    assert (calibrated.folder / "run" / "records.parquet").read_bytes() == records
    assert "specificity at least 0.5" in metric(calibrated)["threshold_from"]


def test_a_threshold_in_the_plan_is_the_plans_and_without_any_none_is_known(calibrated):
    calibrated.rbmed("train", calibrated.plan, "--quiet")
    calibrated.edit(CALIBRATE, "")
    calibrated.run()
    assert metric(calibrated)["threshold_from"].startswith("model card")
    calibrated.edit('label = "bright"', 'label = "bright"\nthreshold = 0.25')
    calibrated.run()
    assert (metric(calibrated)["threshold"], metric(calibrated)["threshold_from"]) == (0.25, "plan")
    path = calibrated.folder / "weights" / "lenet.json"
    path.write_text(json.dumps({**card(calibrated), "operating_points": {}}), encoding="utf-8")
    calibrated.edit("\nthreshold = 0.25", "")
    calibrated.run()
    assert (metric(calibrated)["threshold"], metric(calibrated)["threshold_from"]) == (None, None)


def test_a_split_that_does_not_exist_or_no_metric_that_waits_is_told_before_training(calibrated):
    calibrated.edit('split = "val"', 'split = "vla"')
    (line,) = calibrated.refused(2, "train", calibrated.plan, "--quiet")
    assert "calibrate: split: no 'vla'; did you mean 'val'?" in line
    calibrated.edit('split = "vla"', 'split = "val"')
    calibrated.edit('label = "bright"', 'label = "bright"\nthreshold = 0.25')
    (line,) = calibrated.refused(2, "train", calibrated.plan, "--quiet")
    assert "calibrate: no metric waits for a threshold" in line
    assert not (calibrated.folder / "weights").exists()


@pytest.mark.parametrize(
    ("metric", "cure"),
    [("sensitivity", None), ("auc", None), ("failure", "a tolerance"), ("sensitivty", "mean")],
)
def test_a_rule_may_name_what_is_made_from_a_metric(calibrated, metric, cure):
    policy = calibrated.folder / "policy.toml"
    policy.write_text(policy.read_text().replace('"correct"', f'"{NAME}.{metric}"'))
    calibrated.edit("seed = 3", 'seed = 3\npolicy = "policy.toml"')
    if cure is None:
        assert calibrated.rbmed("check", calibrated.plan)[0] == 0
    else:
        (line,) = calibrated.refused(2, "check", calibrated.plan)
        assert cure in line


def test_a_rule_on_a_rate_without_a_threshold_says_what_would_mend_it(calibrated):
    policy = calibrated.folder / "policy.toml"
    policy.write_text(policy.read_text().replace('"correct"', f'"{NAME}.ppv"'))
    calibrated.edit("seed = 3", 'seed = 3\npolicy = "policy.toml"')
    calibrated.edit(CALIBRATE, "")
    (line,) = calibrated.refused(2, "check", calibrated.plan)
    assert line.endswith("a threshold, or add [calibrate]")
