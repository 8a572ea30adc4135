"""`rbmed train`: early stop, curve, fine-tuning, and a training that diverges."""

import json
import re
import shutil
from xml.etree import ElementTree

import pytest

from robustbench_med.commands.curve import curve_svg
from robustbench_med.commands.training_line import TrainingLine
from robustbench_med.training.steps import Progress
from robustbench_med.training.weights import file_sha256

SPLITS = 'size = [32, 32]\nsplits = { train = 0.4, val = 0.2, test = 0.4 }\nsplit = "test"'
MODEL = 'use = "lenet"\npreset = "small"\nweights = "weights/net.safetensors"'
TRAIN = "[train]\nepochs = 3\nlearning_rate = 0.001\n"


@pytest.fixture
def trained(study):
    """A plan that trains a network."""
    study.edit("labels = {", f"{SPLITS}\nlabels = {{")
    study.edit('use = "study_model:load"', MODEL)
    study.edit("[[metrics]]", f"{TRAIN}\n[[metrics]]")
    return study


def card(study, name="net"):
    return json.loads((study.folder / "weights" / f"{name}.json").read_text())


def test_early_stop_keeps_the_best_weights_says_so_and_is_not_repeated(trained):
    more = 'epochs = 12\nvalidation = "val"\npatience = 2\naverage = 0.9\nworkers = 0'
    trained.edit("epochs = 3", more)
    code, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert code == 0
    curve = card(trained)["curve"]
    losses = [row["validation_loss"] for row in curve]
    best = losses.index(min(losses)) + 1
    assert f"kept: epoch {best}, of the lowest validation loss" in out
    assert curve[-1]["best_epoch"] == best
    assert len(curve) in (best + 2, 12)
    _, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert "trained before" in out
    trained.edit("val = 0.2, test = 0.4", "val = 0.3, test = 0.3")
    _, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert "trained:" in out  # other cases would have chosen another epoch


def test_the_curve_is_drawn_beside_the_weights_with_the_same_bytes_each_time(trained):
    trained.edit("epochs = 3", 'epochs = 3\nvalidation = "val"')
    trained.rbmed("train", trained.plan, "--quiet")
    svg = (trained.folder / "weights" / "net.curve.svg").read_text()
    assert svg == curve_svg(card(trained)["curve"])
    words = "".join(ElementTree.fromstring(svg).itertext())  # noqa: S314 (our own)
    assert all(word in words for word in ("epoch", "training", "validation", "loss"))


def test_a_curve_of_an_early_stop_names_the_epoch_that_was_kept():
    rows = [
        {"epoch": e, "loss": 1 / e, "validation_loss": abs(e - 3) + 1.0, "best_epoch": min(e, 3)}
        for e in (1, 2, 3, 4)
    ]
    assert "kept: epoch 3" in curve_svg(rows)
    assert "kept" not in curve_svg([{"epoch": 1, "loss": 0.5}])


def test_the_plans_mistakes_about_training_are_told_together(trained):
    trained.edit("epochs = 3", 'epochs = 0\nclip = -1\npatience = 2\nshedule = "cosine"')
    told = "\n".join(trained.refused(2, "train", trained.plan))
    for line in ("did you mean 'schedule'", "patience: needs validation = SPLIT"):
        assert line in told
    trained.edit('shedule = "cosine"\n', "")
    told = "\n".join(trained.refused(2, "train", trained.plan))
    for line in ("epochs must be", "clip must be", "patience: needs validation = SPLIT"):
        assert line in told


@pytest.mark.parametrize(
    ("split", "line"),
    [
        ("train", "train: validation: 'train' is trained on: its loss only falls"),
        ("test", "train: validation: 'test' is tested: what is chosen on it flatters"),
        ("vall", "train: validation: split: no 'vall'; did you mean 'val'"),
    ],
)
def test_a_split_that_cannot_validate_is_refused_in_a_line(trained, split, line):
    trained.edit("epochs = 3", f'epochs = 3\nvalidation = "{split}"')
    (told,) = trained.refused(2, "train", trained.plan, "--quiet")
    assert line in told


def test_another_plan_fine_tunes_what_one_trained(trained):
    trained.rbmed("train", trained.plan, "--quiet")
    trained.edit("net.safetensors", "tuned.safetensors")
    trained.edit("epochs = 3", 'epochs = 1\nstart = "weights/net.safetensors"')
    code, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert (code, "trained:" in out) == (0, True)
    digest = file_sha256(trained.folder / "weights" / "net.safetensors")
    told = card(trained, "tuned")["training"]["start"]
    assert told == {"file": "net.safetensors", "sha256": digest}
    assert "trained before" in trained.rbmed("train", trained.plan, "--quiet")[1]
    # Started from other weights it is another training.
    trained.edit('\nweights = "weights/tuned.', '\nweights = "weights/twice.')
    trained.edit('start = "weights/net.', 'start = "weights/tuned.')
    assert "trained:" in trained.rbmed("train", trained.plan, "--quiet")[1]
    trained.edit("weights/tuned.safetensors", "weights/none.safetensors")
    (line,) = trained.refused(2, "train", trained.plan, "--quiet")
    assert "none.safetensors: not there" in line
    trained.edit("weights/none.safetensors", "weights/twice.safetensors")
    (line,) = trained.refused(2, "train", trained.plan, "--quiet")
    assert "start: is where the trained weights go" in line


def test_weights_of_another_head_are_refused_in_one_line_or_left_fresh(trained):
    trained.rbmed("train", trained.plan, "--quiet")
    trained.edit("labels = { dark = 0, bright = 1 }", "labels = { dark = 0, bright = 1, odd = 2 }")
    trained.edit("net.safetensors", "tuned.safetensors")
    trained.edit("epochs = 3", 'epochs = 1\nstart = "weights/net.safetensors"')
    (line,) = trained.refused(2, "train", trained.plan, "--quiet")
    suggested = re.search(r"start_except = (\[.*\])", line)[1]
    trained.edit("epochs = 1", f"epochs = 1\nstart_except = {suggested}")
    code, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert (code, "trained:" in out) == (0, True)


def test_a_training_that_diverges_says_how_to_go_on_and_that_works(trained):
    trained.edit("learning_rate = 0.001", "learning_rate = 0.001\nbatch_size = 4")
    trained.rbmed("train", trained.plan, "--quiet")
    diverging = (
        "\nfrom dataclasses import dataclass\nfrom itertools import count\n"
        "calls = count(1)\n\n"
        "def diverging(model, batch):\n"
        "    losses = model.task.loss(model(batch.image), batch.target)\n"
        "    return losses * (float('nan') if next(calls) > 9 else 1.0)\n\n"
        "def made():\n    return diverging\n"
    )
    trained.edit_model(diverging)
    trained.edit("net.safetensors", "other.safetensors")
    trained.edit("epochs = 3", 'epochs = 9\nloss = { use = "study_model:made" }')
    (line,) = trained.refused(2, "train", trained.plan, "--quiet")
    assert re.search(r"training diverged at epoch \d+, step \d+: loss is nan for cases '", line)
    start, folder = re.search(r'start = "(.*)"', line)[1], re.search(r"delete (\S+) and", line)[1]
    trained.edit('loss = { use = "study_model:made" }', f'start = "{start}"')
    trained.edit("learning_rate = 0.001", "learning_rate = 0.0001")
    (line,) = trained.refused(2, "train", trained.plan, "--quiet")
    assert "another training" in line
    shutil.rmtree(folder)
    code, out, _ = trained.rbmed("train", trained.plan, "--quiet")
    assert (code, "trained:" in out) == (0, True)


def test_weights_that_a_loss_reads_start_from_the_plans_folder(trained):
    trained.rbmed("train", trained.plan, "--quiet")
    reading = (
        "\nfrom dataclasses import dataclass\nfrom robustbench_med.training.weights import "
        "read_weights\nfrom pathlib import Path\n\n@dataclass(frozen=True)\nclass Prior:\n"
        "    weights: str\n\n    def __call__(self, model, batch):\n"
        "        assert read_weights(Path(self.weights))\n"
        "        return model.task.loss(model(batch.image), batch.target)\n"
    )
    trained.edit_model(reading)
    trained.edit("net.safetensors", "other.safetensors")
    loss = 'loss = { use = "study_model:Prior", weights = "weights/net.safetensors" }'
    trained.edit("epochs = 3", f"epochs = 1\n{loss}")
    (trained.folder / "elsewhere").mkdir()
    code, _, err = trained.rbmed("train", trained.plan, "--quiet")
    assert code == 0, err
    told = card(trained, "other")["training"]["loss"]
    assert told["weights"]["file"] == "net.safetensors"
    assert str(trained.folder) not in json.dumps(card(trained, "other"))


def test_progress_is_a_line_an_epoch_and_within_long_ones_now_and_then(trained, monkeypatch):
    trained.edit("epochs = 3", 'epochs = 3\nvalidation = "val"\npatience = 3')
    _, _, err = trained.rbmed("train", trained.plan)
    lines = err.splitlines()
    assert len(lines) == 3
    numbers = r"loss [\d.e-]+, validation [\d.e-]+ \(lowest: epoch \d\)"
    assert re.fullmatch(rf"epoch 2/3, {numbers}, at most \d+:\d\d left", lines[1])
    assert trained.rbmed("train", trained.plan, "--quiet")[2] == ""


def test_within_a_long_epoch_it_says_how_far_it_is(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr("robustbench_med.commands.training_line.time.monotonic", lambda: now)
    line = TrainingLine(5)
    for cases in range(16, 161, 16):
        line.step(Progress(2, cases, 160))
        now += 6.0
    # Every ten seconds at most: after 12, 24, 36 and 48 s; not at the end, where its line follows.
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "epoch 2/5, 48/160 cases, 0:28 left of it"
    assert len(told) == 4


def test_workers_are_used_where_the_plan_asks_for_them(trained):
    trained.edit("epochs = 3", "epochs = 1\nworkers = 1")
    code, _, err = trained.rbmed("train", trained.plan, "--quiet")
    assert (code, err) == (0, "")
    trained.edit("workers = 1", "workers = 0")
    assert "trained before" in trained.rbmed("train", trained.plan, "--quiet")[1]
