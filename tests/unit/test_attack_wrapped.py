"""Attacks around attacks: the mean of random answers, stand-in gradients, surrogates."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustbench_med.attacks.bpda import Bpda
from robustbench_med.attacks.eot import Eot
from robustbench_med.attacks.inner import attack_of
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.square import Square
from robustbench_med.attacks.transfer import Transfer
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build, describe
from robustbench_med.errors import InputError, UnknownNameError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.threat import Ball

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("attacks_fixture.py"))))
run, still_right, trained = MADE.run, MADE.still_right, MADE.trained
BALL = Ball("linf", 0.03, (0.0, 1.0))
LINEAR = Task("regression", ("x",))


@pytest.mark.parametrize("asked", ["pgd", {"use": "pgd"}, Pgd()])
def test_a_name_a_table_and_the_thing_itself_are_one(asked):
    assert attack_of(asked) == Pgd()
    assert Eot(inner=asked) == Eot()
    assert attack_of({"use": "pgd", "steps": 3}) == Pgd(steps=3)


@pytest.mark.parametrize("asked", [7, None, Pgd, {"steps": 2}])
def test_what_is_no_attack_is_refused(asked):
    with pytest.raises(InputError, match="inner: expected"):
        attack_of(asked)


def test_an_unknown_inner_attack_is_told_with_what_was_meant():
    with pytest.raises(UnknownNameError, match="did you mean 'pgd'"):
        Eot(inner="pdg")


class Noisy(nn.Module):
    """A random gain for each voxel, new at every answer, whose mean is 1."""

    def __init__(self, inside, spread):
        super().__init__()
        self.inside, self.spread = inside, spread

    def forward(self, image):
        return self.inside(image * (1 + self.spread * torch.randn_like(image)))


def test_on_a_linear_model_of_random_gains_the_mean_gradient_finds_the_worst_corner():
    weight = torch.linspace(-1, 1, 16)
    weight = torch.where(weight.abs() < 0.2, 0.2, weight)

    class Gains(nn.Module):
        def forward(self, image):
            gains = weight + 2.0 * torch.randn(len(image), 16)
            return (image.flatten(start_dim=1) * gains).sum(dim=1, keepdim=True)

    model = TorchModel(Gains(), LINEAR, (-9, 9))
    batch = Batch(tuple("abcd"), torch.zeros(4, 1, 4, 4), torch.full((4, 1), -1e3))
    inner, ball = Pgd(steps=1, step_size=1.0, random_start=False), Ball("linf", 0.5)
    share = {}
    for samples in (1, 400):
        offset = run(Eot(inner, samples), model, batch, ball).flatten(start_dim=1)
        share[samples] = ((offset.sign() == weight.sign()).float().mean()).item()
    assert share[400] > 0.95
    assert share[1] < 0.8


def test_eot_breaks_a_random_classifier_that_pgd_does_not():
    weight = torch.linspace(-1, 1, 16)

    class Gains(nn.Module):
        def forward(self, image):
            gains = weight + 3.0 * torch.randn(len(image), 16)
            margin = (image.flatten(start_dim=1) * gains).sum(dim=1)
            return torch.stack([margin, -margin], dim=1)

    model = TorchModel(Gains(), Task("classification", ("a", "b")), (-9, 9))
    # Of the largest fall of the mean margin, 0.5 |w|_1, 0.75 turn the mean answer.
    image = 0.75 * 0.5 * weight.abs().sum() / weight.square().sum() * weight
    batch = Batch(tuple("abcdef"), image.view(1, 1, 4, 4).repeat(6, 1, 1, 1), torch.zeros(6).long())
    inner, ball = (
        Pgd(steps=6, step_size=0.4, random_start=False, objective="margin"),
        Ball("linf", 0.5),
    )
    broken = {}
    for name, attack in (("pgd", inner), ("eot", Eot(inner, samples=150))):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = run(attack, model, batch, ball)
        broken[name] = int((found.flatten(start_dim=1) @ weight < 0).sum())
    assert broken["eot"] == 6
    assert broken["pgd"] <= 2


@pytest.mark.parametrize("inner", [Pgd(steps=2), Square(queries=8)], ids=["pgd", "square"])
def test_eot_repeats_itself_whatever_the_batch_and_the_global_state(inner):
    plain, batch = trained()
    model = TorchModel(Noisy(plain.network, 0.5), plain.task, plain.bounds)
    few = Batch(batch.case_ids[:5], batch.image[:5], batch.target[:5])
    attack = Eot(inner, samples=3)
    together = run(attack, model, few, BALL)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        state = torch.get_rng_state()
        alone = torch.cat([run(attack, model, few[case], BALL) for case in range(5)])
        assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="samples must be a whole number"):
        Eot(samples=0)


class Quantise(nn.Module):
    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, image):
        return (image * self.levels).round() / self.levels


def quantised(levels=32):
    plain, batch = trained()
    network = nn.Sequential(Quantise(levels), plain.network)
    model = TorchModel(network, plain.task, plain.bounds)
    with torch.no_grad():
        right = (model(batch.image).argmax(dim=1) == batch.target).nonzero().squeeze(1)
    ids = tuple(batch.case_ids[row] for row in right.tolist())
    return model, Batch(ids, batch.image[right], batch.target[right])


@pytest.mark.parametrize("stand_in", [None, torch.sigmoid, "torch:tanh"])
def test_bpda_breaks_a_network_of_quantised_inputs_that_pgd_does_not(stand_in):
    model, batch = quantised()
    inner = Pgd(steps=15)
    hidden = still_right(model, batch, run(inner, model, batch, BALL))
    found = still_right(model, batch, run(Bpda("0", inner, stand_in), model, batch, BALL))
    assert hidden > 0.8 * len(batch)
    assert found < 0.3 * len(batch)


def test_with_a_part_that_does_nothing_bpda_is_the_inner_attack_and_leaves_no_hook():
    plain, batch = trained()
    model = TorchModel(nn.Sequential(nn.Identity(), plain.network), plain.task, plain.bounds)
    found = run(Bpda("0", Pgd(steps=3)), model, batch, BALL)
    assert torch.equal(found, run(Pgd(steps=3), model, batch, BALL))
    assert not any(module._forward_hooks for module in model.network.modules())
    with pytest.raises(UnsupportedError, match=r"Sequential answers .* its stand-in"):
        run(Bpda("", Pgd(steps=3)), model, batch, BALL)
    assert not any(module._forward_hooks for module in model.network.modules())


def test_a_whole_network_of_images_can_be_stood_in_for_by_the_identity():
    model = TorchModel(Quantise(4), Task("reconstruction"), (0.0, 1.0))
    image = torch.full((1, 1, 4, 4), 0.5)
    batch = Batch(("a",), image, torch.full((1, 1, 4, 4), 0.45))
    found = run(Bpda("", Pgd(steps=20, random_start=False)), model, batch,
                Ball("linf", 0.2, (0.0, 1.0)))  # fmt: skip
    assert (model(found) == 0.75).all()


def test_what_bpda_cannot_find_is_told():
    model, batch = quantised()
    with pytest.raises(InputError, match="no module 'quantise'; known: 0, 1"):
        run(Bpda("quantise"), model, batch, BALL)
    with pytest.raises(UnsupportedError, match="no torch network to look into; use square"):
        run(Bpda("0"), SimpleNamespace(task=model.task, bounds=model.bounds), batch, BALL)
    with pytest.raises(InputError, match="stand_in must be a function, as package"):
        Bpda("0", stand_in="tanh")


class Scaled(nn.Module):
    """Logits so large that the softmax of every answer is exact: no gradient is left."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, image):
        return 1e6 * self.inside(image)


def test_transfer_breaks_a_model_whose_gradient_is_hidden():
    plain, batch = trained()
    hidden = TorchModel(Scaled(plain.network), plain.task, plain.bounds)
    inner = Pgd(steps=15)
    direct = still_right(plain, batch, run(inner, plain, batch, BALL))
    through = still_right(hidden, batch, run(Transfer(plain, inner), hidden, batch, BALL))
    blind = still_right(hidden, batch, run(inner, hidden, batch, BALL))
    assert through <= direct < blind


def test_what_the_surrogate_finds_but_the_model_shrugs_off_stays_clean():
    plain, batch = trained()
    turned = TorchModel(nn.Sequential(Turn(), plain.network, Turn()), plain.task, plain.bounds)
    found = run(Transfer(turned, Pgd(steps=3)), plain, batch, BALL)
    with torch.no_grad():
        clean, after = (margin(plain(image), batch.target) for image in (batch.image, found))
    moved = (found != batch.image).flatten(start_dim=1).any(dim=1)
    assert (after[moved] > clean[moved]).all()
    assert (after >= clean).all()


class Turn(nn.Module):
    def forward(self, value):
        return -value if value.ndim == 2 else 1 - value


def margin(output, target):
    true = output.gather(1, target[:, None]).squeeze(1)
    others = output.scatter(1, target[:, None], -float("inf"))
    return others.amax(dim=1) - true


def test_a_surrogate_is_named_in_a_plan_with_its_weights(tmp_path):
    plain, batch = trained()
    taken = {"preset": "small", "in_channels": 1, "classes": 4, "size": (26, 26)}
    network = build("networks", "lenet", **taken)
    path = tmp_path / "lenet.safetensors"
    save_file(network.state_dict(), path)
    table = {"use": "lenet", "weights": str(path), **taken}
    attack = build("attacks", "transfer", surrogate=table, inner={"use": "pgd", "steps": 2})
    same = Transfer(network, Pgd(steps=2))
    assert torch.equal(run(attack, plain, batch, BALL), run(same, plain, batch, BALL))
    before = describe(attack)
    save_file({key: value + 1 for key, value in network.state_dict().items()}, path)
    assert describe(Transfer(table, Pgd(steps=2))) != before
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="does not fit the network"):
        run(Transfer(table, Pgd(steps=2)), plain, batch, BALL)


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        ({"preset": "small"}, "surrogate: expected use = NAME"),
        ({"use": "lenet", "weights": "nowhere.safetensors"}, "found no weights at .*nowhere"),
        (7, "surrogate must be a table or a model, got int"),
    ],
)
def test_a_surrogate_that_is_none_is_refused(surrogate, message):
    with pytest.raises(InputError, match=message):
        Transfer(surrogate)


def test_a_surrogate_of_another_task_is_refused():
    plain, batch = trained()
    other = TorchModel(nn.Flatten(), LINEAR, (0.0, 1.0))
    with pytest.raises(InputError, match="surrogate answers"):
        run(Transfer(other), plain, batch, BALL)
