"""What every attack must keep, whoever wrote it: the suite runs on all declared attacks."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med import components
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.probes import attacked
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

# A surrogate is a model, which no default can be: tests/unit/test_attack_wrapped.py has transfer.
# What given returns is what somebody wrote: tests/unit/test_attack_exchange.py has its laws.
NAMES = [name for name in components.names("attacks") if name not in {"given", "transfer"}]
BALL = Ball("linf", 0.05, (0.0, 1.0))
# fab returns the nearest wrong answer, or the clean image where the ball holds none: for it alone a
# ball in which every answer turns wrong.
WIDE = {"fab": Ball("linf", 0.3, (0.0, 1.0))}


SEGMENTS = {"sea", "segpgd"}  # that answer for segmentations only
QUICK = {
    "bpda": {"module": "2"},
    "eot": {"inner": {"use": "pgd", "steps": 5}, "samples": 2},
    "fab": {"steps": 10},
    "keep": {"folder": "found"},
    "random_search": {"queries": 200},
    "square": {"queries": 100},
    "sea": {"steps": 8},
    "segpgd": {"steps": 10},
}
CLASSES = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where keep writes


@pytest.fixture
def model(name):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=1 if name in SEGMENTS else 2, padding=1),
            nn.ReLU(),
            nn.Dropout(0.5),
            *(
                [nn.Conv2d(6, 4, 3, padding=1)]
                if name in SEGMENTS
                else [nn.Flatten(), nn.Linear(6 * 36, 4)]
            ),
        )
    return TorchModel(network, task_of(name), (0.0, 1.0))


@pytest.fixture
def batch(name, model):
    stream = torch.Generator().manual_seed(4)
    image = torch.rand(5, 1, 12, 12, generator=stream)
    target = torch.tensor([0, 1, 2, 3, 0])
    if name in SEGMENTS:
        target = torch.randint(0, 4, (5, 12, 12), generator=stream)
    return answered(name, model, Batch(tuple("abcde"), image, target))


def answered(name, model, batch):
    """What the model answers for truth: a decision that is wrong already needs no attack."""
    if name in SEGMENTS:
        return batch
    with torch.no_grad():
        truth = model(batch.image, batch.context).argmax(dim=1)
    return Batch(batch.case_ids, batch.image, truth, batch.context)


def task_of(name):
    return Task("segmentation" if name in SEGMENTS else "classification", CLASSES)


def built(name):
    return components.build("attacks", name, **QUICK.get(name, {}))


def rng_of(batch):
    return CaseRng(7, "law", batch.case_ids)


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_returns_finite_images_that_move_inside_the_ball(name, model, batch):
    ball = WIDE.get(name, BALL)
    found = built(name)(model, batch, ball, rng_of(batch))
    assert found.shape == batch.image.shape
    assert found.isfinite().all()
    projected = ball.project(found, batch.image)
    assert per_case_norm(projected - batch.image, "linf").max() <= ball.eps + 1e-7
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert per_case_norm(projected - batch.image, "linf").min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_does_not_lower_the_mean_loss(name, model, batch):
    found = built(name)(model, batch, BALL, rng_of(batch))
    with torch.no_grad():
        clean = model.task.loss(model(batch.image), batch.target)
        after = model.task.loss(model(BALL.project(found, batch.image)), batch.target)
    assert after.mean() > clean.mean()


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_with_eps_0_returns_the_clean_images_to_the_bit(name, model, batch):
    ball = Ball("linf", 0.0, (0.0, 1.0))
    found = built(name)(model, batch, ball, rng_of(batch))
    assert torch.equal(ball.project(found, batch.image), batch.image)


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_repeats_itself_to_the_bit(name, model, batch):
    attack = built(name)
    first = attack(model, batch, BALL, rng_of(batch))
    assert torch.equal(attack(model, batch, BALL, rng_of(batch)), first)


@pytest.mark.parametrize("name", NAMES)
def test_a_case_fares_the_same_alone_reversed_and_in_a_batch(name, model, batch):
    attack = built(name)
    together = attack(model, batch, BALL, rng_of(batch))
    singles = [batch[index] for index in range(len(batch))]
    alone = torch.cat([attack(model, one, BALL, rng_of(one)) for one in singles])
    turned = Batch(batch.case_ids[::-1], batch.image.flip(0), batch.target.flip(0))
    backwards = attack(model, turned, BALL, rng_of(turned)).flip(0)
    for other in (alone, backwards):
        torch.testing.assert_close(other, together, atol=1e-5, rtol=0)
        with torch.no_grad():
            assert torch.equal(model(other).argmax(dim=1), model(together).argmax(dim=1))


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_leaves_model_batch_and_global_random_state_as_they_were(name, model, batch):
    network = model.network
    network[0].weight.requires_grad_(False)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    flags = [parameter.requires_grad for parameter in network.parameters()]
    image = batch.image.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    built(name)(model, batch, BALL, rng_of(batch))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert not any(module.training for module in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert torch.equal(batch.image, image)
    assert not batch.image.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_runs_as_a_probe_also_where_gradients_are_off(name, model, batch):
    def correct(output, target):
        return (output.argmax(dim=1) == target).float().view(len(target), -1).mean(dim=1)

    probe = attacked(name, built(name), BALL, {"correct": correct})
    with torch.no_grad():
        values = probe.measure(model, batch, rng_of(batch))
    assert values["correct"].shape == (5,)
    assert torch.equal(values["correct"], probe.measure(model, batch, rng_of(batch))["correct"])


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_passes_each_case_its_own_context(name, batch):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.classify = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
            self.segment = nn.Conv2d(1, 4, 3, padding=1)
            self.add_module("2", nn.Identity())  # what bpda names, in the model above too

        def forward(self, image, context):
            layers = self.segment if name in SEGMENTS else self.classify
            return layers(self.get_submodule("2")(image * context["gate"]))

    torch.manual_seed(0)
    model = TorchModel(Gated(), task_of(name), (0.0, 1.0))
    gate = torch.zeros(5, 1, 12, 12)
    gate[1:, :, :6] = 1
    plain = Batch(batch.case_ids, batch.image, batch.target, {"gate": gate})
    gated = answered(name, model, plain)
    ball = WIDE.get(name, BALL)
    found = built(name)(model, gated, ball, rng_of(batch))
    with torch.no_grad():
        clean = model.task.loss(model(gated.image, gated.context), gated.target)
        after = model.task.loss(model(found, gated.context), gated.target)
    assert after[0] == clean[0]
    assert (after[1:] > clean[1:]).all()
