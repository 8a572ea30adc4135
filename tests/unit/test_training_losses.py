"""Losses that see the network and the whole batch, named in a plan."""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.components import build, names
from robustbench_med.errors import InputError, UnknownNameError
from robustbench_med.model import TorchModel
from robustbench_med.training.dice_ce import DiceCe, dice_ce
from robustbench_med.training.loop import train
from robustbench_med.training.objective import objective
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import save_weights

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))


class Coded(nn.Module):
    """A code, and an answer made of it."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, image):
        return self.head(self.encode(image))


@dataclass(frozen=True)
class NearTheMean:
    """Classes, and codes near the mean code of the batch, weighed by what the context says."""

    weight: float = 0.5

    def __call__(self, model, batch):
        code = model.network.encode(batch.image)
        far = (code - code.mean(dim=0)).square().sum(dim=1) * batch.context["trust"]
        own = model.task.loss(model.network.head(code), batch.target)
        return own + self.weight * far


def trusting_cohort():
    plain = MADE.classes_cohort(6)
    cases = [
        Case(c.case_id, c.patient_id, c.image, c.target, {"trust": torch.tensor(0.1 * i)})
        for i, c in enumerate(plain.cases)
    ]
    return Cohort("trusting", plain.task, plain.bounds, cases)


def test_one_step_with_codes_context_and_the_batchs_mean_is_autograds(tmp_path):
    cohort = trusting_cohort()
    network, own = MADE.built(Coded), MADE.built(Coded)
    settings = TrainSettings(
        epochs=1, batch_size=6, optimiser="sgd", learning_rate=0.1, loss=NearTheMean(2.0)
    )
    curve = train(network, cohort, settings, folder=tmp_path)
    batch = next(cohort.batches(6))
    code = own.encode(batch.image)
    entropy = nn.functional.cross_entropy(own.head(code), batch.target)
    trust = 0.1 * torch.arange(6)
    loss = entropy + 2.0 * (trust * ((code - code.mean(0)) ** 2).sum(1)).mean()
    loss.backward()
    for trained, start in zip(network.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(trained, start - 0.1 * 1.9 * start.grad)  # Nesterov: 1 + 0.9
    assert curve[0]["loss"] == pytest.approx(loss.item())


def test_the_default_is_the_tasks_own_loss():
    cohort, network = MADE.classes_cohort(), MADE.small_lenet()
    model, batch = TorchModel(network, cohort.task, cohort.bounds), next(cohort.batches(8))
    found = objective(cohort, TrainSettings())(model, batch)
    assert torch.equal(found, cohort.task.loss(network(batch.image), batch.target))


def test_the_word_dice_ce_is_the_component_of_that_name():
    cohort = MADE.masks_cohort()
    network = MADE.built(lambda: nn.Conv2d(1, 2, 3, padding=1))
    model, batch = TorchModel(network, cohort.task, cohort.bounds), next(cohort.batches(4))
    word = objective(cohort, TrainSettings(loss="dice_ce"))(model, batch)
    table = objective(cohort, TrainSettings(loss={"use": "dice_ce", "smooth": 1.0}))(model, batch)
    assert torch.equal(word, table)
    assert torch.equal(word, dice_ce(network(batch.image), batch.target))
    assert "dice_ce" in names("losses")
    assert build("losses", "dice_ce") == DiceCe()


def test_a_smaller_smoothing_counts_the_same_voxels():
    # Each class: 2 voxels true, 4 halves predicted, 1 voxel of overlap.
    target = torch.tensor([[[0, 0], [1, 1]]])
    flat = dice_ce(torch.zeros(1, 2, 2, 2), target, smooth=0.25).item()
    assert flat == pytest.approx(torch.tensor(2.0).log().item() + 1 - 2.25 / 4.25)


def test_a_loss_of_ones_own_is_named_by_its_module_and_stands_on_the_card(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Doubled:\n"
        "    times: float = 2.0\n"
        "    def __call__(self, model, batch):\n"
        "        return self.times * model.task.loss(model(batch.image), batch.target)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = TrainSettings(epochs=1, loss={"use": "own_loss:Doubled", "times": 3.0})
    described = {"type": "python:own_loss:Doubled", "times": 3.0}
    assert settings.described()["loss"] == described
    assert TrainSettings(epochs=1, loss=settings.loss).described() == settings.described()
    tripled = train(MADE.small_lenet(), MADE.classes_cohort(), settings, folder=tmp_path / "a")
    once = TrainSettings(epochs=1)
    plain = train(MADE.small_lenet(), MADE.classes_cohort(), once, folder=tmp_path / "b")
    assert tripled[0]["loss"] == pytest.approx(3 * plain[0]["loss"])
    sys.modules.pop("own_loss")


@dataclass(frozen=True)
class Reading:
    """Reads weights of a network of its own."""

    weights: str

    def __call__(self, model, batch):
        raise NotImplementedError


def test_weights_that_a_loss_reads_are_told_by_their_content_not_their_place(tmp_path):
    told = []
    for folder, value in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        save_weights(tmp_path / folder / "prior.safetensors", {"code": torch.full((2,), value)})
        loss = Reading(str(tmp_path / folder / "prior.safetensors"))
        told.append(TrainSettings(loss=loss).described()["loss"])
    assert told[0] == told[1] != told[2]
    assert told[0]["weights"]["file"] == "prior.safetensors"
    with pytest.raises(InputError, match=r"gone\.safetensors: not there"):
        TrainSettings(loss=Reading(str(tmp_path / "gone.safetensors"))).described()


def test_balanced_classes_weigh_any_loss(tmp_path):
    cohort = Cohort(
        "skewed", Task("classification", ("a", "b")), (0, 1), MADE.classes_cohort(5).cases
    )
    network = MADE.small_lenet()
    model, batch = TorchModel(network, cohort.task, cohort.bounds), next(cohort.batches(5))

    def mean_logit(model, batch):
        return model(batch.image).mean(dim=1)

    settings = TrainSettings(class_weights="balanced", loss=mean_logit)
    found = objective(cohort, settings)(model, batch)
    weights = torch.tensor([5 / 6, 5 / 4])[batch.target]
    torch.testing.assert_close(found, weights * network(batch.image).mean(dim=1))


def one_number(model, batch):
    return model(batch.image).mean()


def no_tensor(model, batch):
    return 1.0


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ({"smooth": 1}, InputError, "loss needs use = NAME"),
        ({"use": "dice"}, UnknownNameError, "did you mean 'dice_ce'"),
        ({"use": "dice_ce", "smoth": 1}, InputError, "did you mean 'smooth'"),
        ({"use": "dice_ce", "smooth": 0}, InputError, "smooth must be above 0, got 0"),
        (3, InputError, "loss must be a table with use = NAME"),
        ("hinge", InputError, "loss must be one of task, dice_ce, got 'hinge'"),
    ],
)
def test_wrong_losses_are_refused(loss, error, message):
    with pytest.raises(error, match=message):
        TrainSettings(loss=loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [(one_number, r"one_number: expected one value per case, \(8,\), got \(\)"),
     (no_tensor, r"no_tensor: expected one value per case, \(8,\), got float"),
     (DiceCe(), "'dice_ce' needs a segmentation task, got classification")],
)  # fmt: skip
def test_a_loss_that_gives_no_value_per_case_is_refused(tmp_path, loss, message):
    settings = TrainSettings(epochs=1, batch_size=8, loss=loss)
    with pytest.raises(InputError, match=message) as refused:
        train(MADE.small_lenet(), MADE.classes_cohort(), settings, folder=tmp_path)
    assert len(str(refused.value).splitlines()) == 1
