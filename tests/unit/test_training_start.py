"""Training that starts from weights trained before."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_med.errors import InputError
from robustbench_med.models import save_model
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.starting import start_from
from robustbench_med.training.weights import file_sha256, save_weights

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))


class Headed(nn.Module):
    def __init__(self, classes=2, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, classes)
        self.header = nn.Linear(1, 1)

    def forward(self, image):
        return self.head(self.body(image))


@pytest.fixture
def before(tmp_path):
    network = MADE.built(Headed, seed=5)
    with torch.no_grad():
        network.body[2].running_mean.fill_(0.25)
    save_weights(tmp_path / "before.safetensors", network.state_dict())
    return tmp_path / "before.safetensors", network


def test_all_weights_and_running_statistics_come_from_the_file(before):
    path, old = before
    network = MADE.built(Headed, seed=1)
    start_from(network, path, ())
    assert torch.equal(MADE.weights_of(network), MADE.weights_of(old))


def test_a_head_of_other_classes_is_refused_in_one_line_and_left_fresh_if_asked(before):
    path, old = before
    network, own = MADE.built(Headed, seed=1, classes=3), MADE.built(Headed, seed=1, classes=3)
    told = r"head.weight is \(2, 4\) there, \(3, 4\) here; head.bias is .*start_except = \['head'\]"
    with pytest.raises(InputError, match=told) as refused:
        start_from(network, path, ())
    assert len(str(refused.value).splitlines()) == 1
    assert torch.equal(MADE.weights_of(network), MADE.weights_of(own))  # nothing half done
    start_from(network, path, ("head",))
    assert torch.equal(network.head.weight, own.head.weight)
    assert torch.equal(network.body[1].weight, old.body[1].weight)
    assert torch.equal(network.header.weight, old.header.weight)  # not "head" and what follows it


def test_one_parameter_may_be_left_fresh_too(before):
    path, old = before
    network, own = MADE.built(Headed, seed=1), MADE.built(Headed, seed=1)
    start_from(network, path, ("head.bias", "body.2"))
    assert torch.equal(network.head.bias, own.head.bias)
    assert torch.equal(network.head.weight, old.head.weight)
    assert not network.body[2].running_mean.any()


@pytest.mark.parametrize(
    ("network", "fresh", "message"),
    [
        (Headed, ("heat",), "start_except: no parameter 'heat'; did you mean 'head'"),
        (lambda: Headed(width=5), ("head",), r"body.1.weight is \(4, 256\) there, \(5, 256\) here"),
        (lambda: nn.Linear(2, 2), (), r"weight is not there; .* and \d+ more"),
        (lambda: nn.Sequential(Headed()), (), "0.body.1.weight is not there"),
    ],
)
def test_weights_that_do_not_fit_are_refused(before, network, fresh, message):
    with pytest.raises(InputError, match=message) as refused:
        start_from(network(), before[0], fresh)
    assert len(str(refused.value).splitlines()) == 1


def test_weights_that_the_network_has_no_use_for_are_refused_unless_excepted(before, tmp_path):
    _, old = before
    more = {**old.state_dict(), "decoder.weight": torch.ones(1)}
    save_weights(tmp_path / "more.safetensors", more)
    network = MADE.built(Headed)
    with pytest.raises(InputError, match=r"decoder.weight is not here.*\['decoder'\]"):
        start_from(network, tmp_path / "more.safetensors", ())
    start_from(network, tmp_path / "more.safetensors", ("decoder",))
    assert torch.equal(MADE.weights_of(network), MADE.weights_of(old))


def test_a_missing_or_altered_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors: not there"):
        start_from(MADE.small_lenet(), tmp_path / "gone.safetensors", ())
    entry = {"use": "lenet", "preset": "small"}
    network, cohort = MADE.small_lenet(), MADE.classes_cohort()
    save_model(tmp_path / "a.safetensors", entry, network, cohort, TrainSettings(), [])
    start_from(network, tmp_path / "a.safetensors", ())
    changed = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    save_weights(tmp_path / "a.safetensors", changed)
    with pytest.raises(InputError, match="altered since its model card"):
        start_from(network, tmp_path / "a.safetensors", ())


def test_the_start_decides_the_weights_and_stands_in_the_identity_by_its_digest(before, tmp_path):
    path, _ = before
    cohort = MADE.classes_cohort()
    found = []
    for name, start in (("a", str(path)), ("b", str(path)), ("c", None)):
        network = MADE.built(Headed, seed=1)
        settings = TrainSettings(epochs=1, start=start)
        train(network, cohort, settings, folder=tmp_path / name)
        found.append(MADE.weights_of(network))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    told = TrainSettings(start=str(path)).described()["start"]
    assert told == {"file": "before.safetensors", "sha256": file_sha256(path)}
    with pytest.raises(InputError, match="start was"):
        train(MADE.built(Headed), cohort, TrainSettings(epochs=2), folder=tmp_path / "a")


def test_a_stopped_training_that_started_from_weights_continues_to_the_same_bits(before, tmp_path):
    path, _ = before
    cohort = MADE.classes_cohort()
    settings = TrainSettings(epochs=3, start=str(path), start_except=("head",))
    straight, stopped, on = (MADE.built(Headed, seed=1) for _ in range(3))
    train(straight, cohort, settings, folder=tmp_path / "straight")
    with pytest.raises(MADE.StopAfterError):
        train(
            stopped, cohort, settings, folder=tmp_path / "s",
            on_epoch=MADE.stop_after(1, MADE.StopAfterError),
        )  # fmt: skip
    train(on, cohort, settings, folder=tmp_path / "s")
    assert torch.equal(MADE.weights_of(straight), MADE.weights_of(on))
