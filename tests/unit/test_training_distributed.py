"""Two processes that train one network, against one with batches of twice the size."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med.training.card import read_card
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import read_weights

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
# Without clip, and not Adam: those would not see a gradient of the wrong length.
PLAIN = {"optimiser": "sgd", "learning_rate": 0.1, "augment": "flip", "average": 0.8, "patience": 9}
CLIPPED = {"optimiser": "adam", "clip": 0.5}
SCRIPT = """
import json, runpy, sys
from pathlib import Path
from robustbench_med.training.distributed import here, joined
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import save_weights
from robustbench_med.cases import Case, Cohort

made, folder, settings, count = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
made = runpy.run_path(made)
cohort, other = made["masks_cohort"](int(count), 8), made["masks_cohort"](3, 16)
other = [Case(f"l{c.case_id}", c.patient_id, c.image, c.target) for c in other.cases]
mixed = Cohort("mixed", cohort.task, cohort.bounds, [*cohort.cases, *other])
from torch import nn

class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, image):
        return self.used(image)

network = made["built"](Partly)
with joined("cpu"):
    held_out = made["masks_cohort"](5, 8)
    settings = TrainSettings(**settings)
    curve = train(network, mixed, settings, folder=folder / "c", validation=held_out)
    if here().rank == 0:
        save_weights(folder / "w.safetensors", network.state_dict())
        (folder / "curve.json").write_text(json.dumps([here().count, curve]))
"""


def processes(count, *arguments, cwd):
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command = [sys.executable, *(several if count > 1 else []), *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MASTER_", "RANK", "WORLD"))}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
        env=clean | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def trained(tmp_path, name, count, cases, **settings):
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    fixture = Path(__file__).with_name("training_fixture.py")
    done = processes(count, "script.py", fixture, folder, json.dumps(settings), cases, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told, curve = json.loads((folder / "curve.json").read_text())
    assert told == count
    weights = read_weights(folder / "w.safetensors")
    return torch.cat([tensor.flatten() for tensor in weights.values()]), curve, folder


@pytest.mark.parametrize("settings", [PLAIN, pytest.param(CLIPPED, marks=pytest.mark.slow)])
def test_two_processes_make_the_steps_of_one_with_twice_the_batch(tmp_path, settings):
    # 9 cases of one size and 3 of another in batches of 2 x 2: the last batch of 1 leaves a
    # process without any case; its gradient must not count.
    common = {"epochs": 2, "accumulate": 2, **settings}
    one, curve, _ = trained(tmp_path, "one", 1, 9, batch_size=4, **common)
    two, same, folder = trained(tmp_path, "two", 2, 9, batch_size=2, **common)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    for row, other in zip(curve, same, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-4)
        assert other["validation_loss"] == pytest.approx(row["validation_loss"], rel=1e-4)
    assert len(list((folder / "c").glob("*.safetensors"))) == (3 if "patience" in settings else 1)


PLAN = """
name = "two"
seed = 3
[cohort]
use = "synthetic_cine"
task = "segmentation"
patients = { train = 2, validation = 1, test = 1 }
size = 48
pixel_mm = 3.0
slices = 1
[model]
use = "unet"
preset = "small"
weights = "w.safetensors"
[[metrics]]
use = "dice"
label = "lv"
[train]
epochs = 2
batch_size = 1
"""


@pytest.mark.slow
def test_the_command_trains_one_network_in_two_processes_and_only_the_first_tells(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    call = ("-m", "robustbench_med", "train", "plan.toml")
    done = processes(2, *call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: ") == 1
    assert done.stderr.count("epoch 2/2, loss") == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"plan.toml", "w.safetensors", "w.json", "w.curve.svg"}
    assert read_card(tmp_path / "w.safetensors").processes == 2
    assert "trained before" in processes(1, *call, cwd=tmp_path).stdout


@pytest.mark.slow
def test_what_goes_wrong_in_all_processes_is_told_once(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN + "learning_rate = 1e30\noptimiser = 'sgd'\n")
    done = processes(2, "-m", "robustbench_med", "train", "plan.toml", cwd=tmp_path)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("rbmed: ")]
    assert len(told) == 1, done.stderr
    assert "diverged at epoch" in told[0]


def test_another_number_of_processes_is_another_training(tmp_path):
    cohort = MADE.classes_cohort()
    train(MADE.small_lenet(), cohort, TrainSettings(epochs=1), folder=tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["identity"] = state["identity"].replace('"processes": 1', '"processes": 2')
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="processes was 2, is now 1"):
        train(MADE.small_lenet(), cohort, TrainSettings(epochs=2), folder=tmp_path)
