"""What certifiers of images must keep: a small cascade, errors of its acquired k-space samples."""

import itertools
import pickle

import pytest
import torch

from robustbench_med import components
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.networks.deep_cascade import DeepCascade, Size
from robustbench_med.probes import certified
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

NAMES = ("image_error",)
LIMIT = 0.05
BALLS = [
    Ball("linf", 0.02, support="mask"),
    Ball("l2", 0.01, unit="fraction", support="mask"),
]
STATUSES = ("certified", "falsified", "undecided")
SIZE = 6


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return TorchModel(DeepCascade(Size(2, 2, 4), None), Task("reconstruction"), (-9e9, 9e9))


@pytest.fixture(scope="module")
def batch(model):
    """Cases whose truth is near the model's answer, but for the last."""
    stream = torch.Generator().manual_seed(3)
    mask = torch.zeros(3, 1, SIZE, SIZE)
    mask[:, :, ::2] = 1
    mask[2, :, 3] = 1
    image = torch.randn(3, 2, SIZE, SIZE, generator=stream) * mask
    with torch.no_grad():
        target = model(image, {"mask": mask})
    noise = torch.tensor([0.01, 0.1, 2.0])[:, None, None, None]
    target = target + noise * torch.randn(target.shape, generator=stream)
    return Batch(("a", "b", "c"), image, target, {"mask": mask})


def nmse(model, batch, image):
    error = (model(image, batch.context) - batch.target).square().flatten(1).sum(1)
    return error / batch.target.square().flatten(1).sum(1)


def attacked(model, batch, ball):
    """Images of the ball that projected gradient steps pass through."""
    radius = ball.radius(batch.image, batch.context)
    stream = torch.Generator().manual_seed(5)
    for _ in range(2):
        noise = torch.randn(batch.image.shape, generator=stream)
        image = ball.project(batch.image + radius * noise, batch.image, batch.context)
        for _ in range(25):
            image.requires_grad_()
            (slope,) = torch.autograd.grad(nmse(model, batch, image).sum(), image)
            if ball.norm == "linf":
                step = slope.sign()
            else:
                step = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
            moved = image.detach() + radius / 3 * step
            image = ball.project(moved, batch.image, batch.context)
            yield image


def run(name, model, batch, ball, **settings):
    certifier = components.build("certifiers", name, **({"limit": LIMIT} | settings))
    return certifier(model, batch, ball, CaseRng(7, "law", batch.case_ids))


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_case_has_one_status_and_limits_that_no_attack_breaks(name, ball, model, batch):
    values = run(name, model, batch, ball)
    statuses = torch.stack([values[status] for status in STATUSES])
    assert set(statuses.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(statuses.sum(dim=0), torch.ones(3))
    clean = nmse(model, batch, batch.image).detach()
    assert torch.allclose(values["nmse_clean"], clean, rtol=1e-4)
    assert (values["falsified"] >= (clean > LIMIT).float()).all()
    for (_, certificate), falsified in zip(values.certificates, values["falsified"], strict=True):
        assert (certificate.falsifier is not None) == bool(falsified)
    assert torch.equal(values["checked"], values["certified"])
    assert torch.equal(values["certified"], (values["nmse_limit"] <= LIMIT).float())
    for image in attacked(model, batch, ball):
        with torch.no_grad():
            assert (nmse(model, batch, image) <= values["nmse_limit"] * (1 + 1e-5)).all()
            error = torch.linalg.vector_norm(model(image, batch.context) - batch.target, dim=1)
            worst = error.flatten(1).amax(1)
            assert (worst <= values["worst_pixel_limit"] * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_ball_of_no_size_gives_the_clean_error(name, model, batch):
    values = run(name, model, batch, Ball("linf", 0.0, support="mask"))
    assert torch.allclose(values["nmse_limit"], values["nmse_clean"], rtol=1e-4)
    assert not values["undecided"].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_ball_has_no_lower_limit(name, model, batch):
    found = [run(name, model, batch, Ball("linf", eps, support="mask")) for eps in (1e-3, 0.05)]
    for smaller, larger in itertools.pairwise(found):
        assert (smaller["certified"] >= larger["certified"]).all()
        assert (smaller["nmse_limit"] <= larger["nmse_limit"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_value_does_not_depend_on_the_batch_it_was_computed_in(name, model, batch):
    together = run(name, model, batch, BALLS[0])
    for case in range(3):
        alone = run(name, model, batch[case], BALLS[0])
        for metric, value in alone.items():
            assert torch.equal(value[0], together[metric][case])


@pytest.mark.parametrize("name", NAMES)
def test_model_and_global_state_stay_as_they_were_and_it_can_be_pickled(name, model, batch):
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    image, state = batch.image.clone(), torch.get_rng_state()
    run(name, model, batch, BALLS[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch.image, image)
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    for key, value in model.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[key])
    probe = certified(name, components.build("certifiers", name), BALLS[0])
    assert pickle.loads(pickle.dumps(probe)).spec == probe.spec  # noqa: S301


@pytest.mark.parametrize("name", NAMES)
def test_other_tasks_are_unsupported(name, batch):
    model = TorchModel(torch.nn.Flatten(), Task("classification", ("a", "b")), (0, 1))
    with pytest.raises(UnsupportedError, match="reconstruction"):
        run(name, model, batch, BALLS[0])
