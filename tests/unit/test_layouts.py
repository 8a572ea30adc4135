"""Layouts: the copies answer as the model does, the model is left alone, failures are told."""

import copy
import math

import pytest
import torch
from torch import nn

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.transfer import Transfer
from robustbench_med.cases import Batch, Task
from robustbench_med.engine import layouts as module
from robustbench_med.engine.layouts import Layouts, Tried, laid_out, layouts
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("classification", ("a", "b", "c"))
EAGER = ("channels_last", "bf16")


def small(axes=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        network = nn.Sequential(
            convolution(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6**axes, 3)
        )
        image = torch.rand(5, 2, *[6] * axes)
    model = TorchModel(network, TASK, (0.0, 1.0))
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    return model, Batch(tuple("abcde"), image, target)


@pytest.mark.parametrize("name", EAGER)
@pytest.mark.parametrize("axes", [2, 3])
def test_a_copy_answers_as_the_model_does_to_its_own_rounding(name, axes):
    model, batch = small(axes)
    other = laid_out(model, name, axes + 2)
    assert isinstance(other, Model)
    expected, output = model(batch.image), other(batch.image)
    assert output.dtype == batch.image.dtype
    bound = 1e-5 if name == "channels_last" else 2e-2
    assert (output - expected).abs().max() < bound * expected.abs().max()
    if name == "bf16":
        assert not torch.equal(output, expected)  # it really is coarser


def test_what_is_measured_agrees_and_the_model_is_left_as_it_was():
    model, batch = small()
    before = copy.deepcopy(model.network.state_dict())
    strides = [parameter.stride() for parameter in model.network.parameters()]
    state = torch.get_rng_state()
    found = layouts(model, batch, repeats=3, names=EAGER)
    assert [one.name for one in found.tried] == list(EAGER)
    assert all(one.agrees and one.ratio > 0 and not one.why_not for one in found.tried)
    assert found.seconds > 0
    assert found.device.startswith("CPU")
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name])
    for parameter, stride in zip(model.network.parameters(), strides, strict=True):
        assert parameter.stride() == stride
        assert parameter.requires_grad
        assert parameter.grad is None


def test_a_network_that_bf16_ruins_does_not_agree():
    class Cancelling(nn.Module):
        def forward(self, image):
            flat = image.flatten(start_dim=1)
            wide = flat @ torch.full((flat.shape[1], 3), 100.0)  # rounded to 8 bits
            return wide - 100 * flat.sum(dim=1, keepdim=True) + flat[:, :3]

    _, batch = small()
    model = TorchModel(Cancelling(), TASK, (0.0, 1.0))
    (tried,) = layouts(model, batch, repeats=3, names=("bf16",)).tried
    assert tried.difference > 0.05
    assert not tried.agrees
    assert not tried.gains


@pytest.mark.parametrize(
    ("ratios", "best"),
    [
        ({"channels_last": 1.2, "bf16": 0.95}, None),
        ({"channels_last": 0.8, "bf16": 0.7}, "bf16"),
        ({"channels_last": 0.8, "compiled": math.nan}, "channels_last"),
    ],
)
def test_only_what_saves_a_tenth_is_taken(ratios, best):
    tried = tuple(Tried(name, ratio, 0.0, 1.0) for name, ratio in ratios.items())
    assert Layouts("CPU", 1.0, tried).best == best


def test_what_is_wrong_is_not_taken_however_fast():
    tried = (Tried("bf16", 0.1, 0.5, 1.0), Tried("compiled", 0.1, 0.0, 0.5))
    assert Layouts("CPU", 1.0, tried).best is None


def test_what_cannot_be_tried_is_told_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    model, batch = small(1)
    found = layouts(model, batch, repeats=3)
    why = {one.name: one.why_not for one in found.tried}
    assert "needs images (b, c, h, w) or volumes, got 3 axes" in why["channels_last"]
    assert "no C++ compiler" in why["compiled"]
    assert why["bf16"] == ""
    assert not any(one.gains for one in found.tried if one.why_not)
    with pytest.raises(UnsupportedError, match="no C"):
        laid_out(model, "compiled")
    with pytest.raises(InputError, match="at least 3, got 1"):
        layouts(model, batch, repeats=1)


def test_a_search_in_bf16_is_scored_in_float32():
    model, batch = small()
    ball = Ball("linf", 0.1, (0.0, 1.0))
    rng = CaseRng(0, "x", batch.case_ids)
    found = Transfer(laid_out(model, "bf16"), Pgd(steps=5))(model, batch, ball, rng)
    assert found.dtype == torch.float32
    assert torch.equal(ball.project(found, batch.image), found)
    before, after = (TASK.loss(model(image), batch.target) for image in (batch.image, found))
    assert (after >= before).all()
    assert (after > before).any()
