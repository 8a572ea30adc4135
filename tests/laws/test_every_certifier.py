"""What every certifier must keep, whoever wrote it: the suite runs on all declared ones.

One that is statistical speaks, with a probability, of the smoothed model and not of the model:
what compares a certificate with the model's own answers is asked of its smoothed answers instead.
"""

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med import components
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.probes import certified
from robustbench_med.statistics.contradiction import STATISTICAL
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

IMAGES = ("image_error",)  # of reconstructions, held to laws of their own
NAMES = [name for name in components.names("certifiers") if name not in IMAGES]
PROOFS = [name for name in NAMES if not name.startswith(STATISTICAL)]
SMOOTHED = [name for name in NAMES if name.startswith(STATISTICAL)]
BOUNDS = (0.0, 1.0)
BALLS = [Ball("linf", 0.004, BOUNDS), Ball("linf", 0.02, BOUNDS), Ball("l2", 0.02, BOUNDS)]
STATUSES = ("certified", "falsified", "undecided")


def built(network_of, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network_of()


def classifier():
    network = built(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 4),
        ),
        3,
    )  # fmt: skip
    return TorchModel(network, Task("classification", tuple("abcd")), BOUNDS)


def segmenter():
    network = built(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2),
        ),
        3,
    )  # fmt: skip
    with torch.no_grad():  # so that no class wins everywhere
        network[-1].bias -= network(torch.linspace(0, 1, 64).view(1, 1, 8, 8)).mean((0, 2, 3))
    return TorchModel(network, Task("segmentation", tuple("abc")), BOUNDS)


def batch_for(model):
    """Cases whose truth is the model's own answer, but for the last case or a row of pixels."""
    image = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    wrong = (3,) if model.task.kind == "classification" else (slice(None), 0)
    target[wrong] = (target[wrong] + 1) % len(model.task.classes)
    return Batch(tuple("abcd"), image, target)


def correct_share(model, image, target):
    right = (model(image).argmax(dim=1) == target).float()
    return right if right.ndim == 1 else right.flatten(start_dim=1).mean(dim=1)


def worst_share(model, batch, ball):
    """Smallest share of correct answers that projected gradient steps find, per case."""
    worst = correct_share(model, batch.image, batch.target)
    for image in attacked(model, batch, ball):
        worst = torch.minimum(worst, correct_share(model, image, batch.target))
    return worst


def attacked(model, batch, ball):
    """Images of the ball that projected gradient steps pass through."""
    stream = torch.Generator().manual_seed(5)
    for _ in range(3):
        noise = 2 * torch.rand(batch.image.shape, generator=stream) - 1
        image = ball.project(batch.image + ball.eps * noise, batch.image)
        for _ in range(20):
            image.requires_grad_()
            loss = model.task.loss(model(image), batch.target).sum()
            (slope,) = torch.autograd.grad(loss, image)
            image = image.detach() + ball.eps / 4 * slope.sign()
            image = ball.project(image, batch.image)
            with torch.no_grad():
                yield image


def smoothed_share(model, image, target, sigma, rounds=400):
    """Share of positions, per case, whose true class may still win most votes under noise."""
    stream = torch.Generator().manual_seed(6)
    with torch.no_grad():
        votes = sum(
            model(image + sigma * torch.randn(image.shape, generator=stream)).argmax(dim=1)
            == target
            for _ in range(rounds)
        )
    # Four standard errors: a class that wins half the votes may lose a sample of them.
    may = (votes >= rounds / 2 - 2 * rounds**0.5).float()
    return may if may.ndim == 1 else may.flatten(start_dim=1).mean(dim=1)


def run(name, model, batch, ball):
    certifier = components.build("certifiers", name)
    return certifier(model, batch, ball, CaseRng(7, "law", batch.case_ids))


@pytest.fixture(params=[classifier, segmenter], ids=["classifier", "segmenter"])
def model(request):
    return request.param()


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_case_is_certified_falsified_or_undecided(name, ball, model):
    batch = batch_for(model)
    values = run(name, model, batch, ball)
    statuses = torch.stack([values[status] for status in STATUSES])
    assert statuses.shape == (3, 4)
    assert ((statuses >= 0) & (statuses <= 1)).all()
    assert torch.allclose(statuses.sum(dim=0), torch.ones(4))
    if model.task.kind == "classification":
        assert set(statuses.flatten().tolist()) <= {0.0, 1.0}
    if name in PROOFS:
        clean = correct_share(model, batch.image, batch.target)
        # More than what is wrong without a change: what an image of the ball gets wrong.
        assert (values["falsified"] >= 1 - clean - 1e-6).all()


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("name", PROOFS)
def test_what_is_certified_no_attack_breaks(name, ball, model):
    batch = batch_for(model)
    share = run(name, model, batch, ball)["certified"]
    assert (worst_share(model, batch, ball) >= share - 1e-6).all()


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("name", SMOOTHED)
def test_what_is_certified_of_the_smoothed_model_no_attack_breaks(name, ball, model):
    batch, sigma = batch_for(model), components.build("certifiers", name).sigma
    share = run(name, model, batch, ball)["certified"]
    for image in list(attacked(model, batch, ball))[19::20]:
        assert (smoothed_share(model, image, batch.target, sigma) >= share - 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_some_case_is_certified_in_a_small_ball(name, model):
    values = run(name, model, batch_for(model), Ball("linf", 1e-4, BOUNDS))
    assert values["certified"].sum() > 1


@pytest.mark.parametrize("name", PROOFS)
def test_eps_zero_certifies_what_the_model_gets_right(name, model):
    batch = batch_for(model)
    share = run(name, model, batch, Ball("linf", 0.0, BOUNDS))["certified"]
    assert torch.allclose(share, correct_share(model, batch.image, batch.target))


@pytest.mark.parametrize("name", SMOOTHED)
def test_eps_zero_certifies_what_the_smoothed_model_gets_right_unless_it_abstains(name, model):
    values = run(name, model, batch_for(model), Ball("linf", 0.0, BOUNDS))
    assert values["certified"].sum() > 1
    assert torch.allclose(values["undecided"], values["abstained"])


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_ball_certifies_no_more(name, model):
    batch = batch_for(model)
    shares = [
        run(name, model, batch, Ball("linf", eps, BOUNDS))["certified"]
        for eps in (1e-4, 1e-3, 1e-2)
    ]
    assert (shares[0] >= shares[1]).all()
    assert (shares[1] >= shares[2]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_value_does_not_depend_on_the_batch_it_was_computed_in(name, model):
    batch = batch_for(model)
    together = run(name, model, batch, BALLS[0])
    for case in range(4):
        alone = run(name, model, batch[case], BALLS[0])
        for metric, value in alone.items():
            assert torch.equal(value[0], together[metric][case])


@pytest.mark.parametrize("name", NAMES)
def test_a_certifier_leaves_the_model_and_the_global_state_as_they_were(name, model):
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    modes = [module.training for module in model.network.modules()]
    grads = [parameter.requires_grad for parameter in model.network.parameters()]
    batch = batch_for(model)
    image = batch.image.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    run(name, model, batch, BALLS[0])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    assert [module.training for module in model.network.modules()] == modes
    assert [parameter.requires_grad for parameter in model.network.parameters()] == grads
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert torch.equal(batch.image, image)
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", NAMES)
def test_a_certifier_can_be_described_and_pickled(name):
    probe = certified(name, components.build("certifiers", name), BALLS[0])
    assert pickle.loads(pickle.dumps(probe)).spec == probe.spec  # noqa: S301
