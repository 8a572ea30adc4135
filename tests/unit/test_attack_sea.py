"""SEA: exact on per-voxel linear models, inside its ball, never behind what it is made of."""

import pytest
import torch
from torch import nn

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.pixelwise import MaskedCe
from robustbench_med.attacks.sea import Sea
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def case_of(network, classes):
    task = Task("segmentation", tuple("abc")[:classes])
    model = TorchModel(network.double(), task, (0.0, 1.0))
    image = torch.rand(3, 2, 8, 7).double()
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    target[0, :2] = 0
    return model, Batch(("a", "b", "c"), image, target)


def errors_of(model, batch, image):
    with torch.no_grad():
        return (model(image).argmax(dim=1) != batch.target).flatten(start_dim=1).sum(dim=1)


def found_by(attack, model, batch, ball):
    found = attack(model, batch, ball, CaseRng(0, "x", batch.case_ids))
    return ball.project(found, batch.image)


@pytest.mark.parametrize("eps", [0.02, 0.2])
def test_on_a_linear_model_of_two_classes_every_voxel_that_can_turn_does(eps):
    model, batch = case_of(nn.Conv2d(2, 2, 1), 2)
    most = torch.zeros_like(batch.target, dtype=torch.bool)
    for signs in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 2):
        corner = (batch.image + eps * signs.view(1, 2, 1, 1)).clamp(0, 1)
        with torch.no_grad():
            most |= model(corner).argmax(dim=1) != batch.target
    found = found_by(Sea(steps=20), model, batch, Ball("linf", eps, (0.0, 1.0)))
    assert torch.equal(errors_of(model, batch, found), most.flatten(start_dim=1).sum(dim=1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_stays_in_its_ball_and_turns_at_least_as_many_voxels_as_pgd(norm):
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1))
    model, batch = case_of(network, 3)
    ball = Ball(norm, 0.05 if norm == "linf" else 0.5, (0.0, 1.0))
    raw = Sea(steps=60)(model, batch, ball, CaseRng(0, "x", batch.case_ids))
    assert (per_case_norm(raw - batch.image, norm) <= ball.eps * (1 + 1e-9)).all()
    found = errors_of(model, batch, ball.project(raw, batch.image))
    plain = Pgd(steps=60, objective=MaskedCe())
    assert found.sum() >= errors_of(model, batch, found_by(plain, model, batch, ball)).sum()
    assert (found > errors_of(model, batch, batch.image)).any()


def test_what_it_cannot_do_is_told():
    model, batch = case_of(nn.Conv2d(2, 2, 1), 2)
    rng = CaseRng(0, "x", batch.case_ids)
    with pytest.raises(InputError, match="sea: steps"):
        Sea(steps=3)
    with pytest.raises(UnsupportedError, match="linf and l2"):
        Sea()(model, batch, Ball("l1", 1.0), rng)
    other = TorchModel(model.network, Task("reconstruction"), (0.0, 1.0))
    with pytest.raises(UnsupportedError, match="sea: needs a task of segmentation"):
        Sea()(other, batch, Ball("linf", 1.0), rng)
