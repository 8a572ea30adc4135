"""Accumulation, clipping, schedule, average: each against a computation written out."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_med.networks.unet import unet
from robustbench_med.training.averaging import Average, standing_in
from robustbench_med.training.loop import train
from robustbench_med.training.schedule import learning_rate
from robustbench_med.training.seeding import order_of
from robustbench_med.training.settings import TrainSettings

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
BARE = {"optimiser": "sgd", "learning_rate": 0.1}


def trained(folder, cohort=None, validation=None, network=None, **settings):
    network = network or MADE.small_lenet()
    cohort = cohort or MADE.classes_cohort(10)
    curve = train(network, cohort, TrainSettings(**settings), folder=folder, validation=validation)
    return network, curve


def batches_in_order(cohort, size, epoch=1, seed=0):
    order = order_of(seed, epoch, len(cohort))
    for start in range(0, len(order), size):
        cases = [cohort.cases[index] for index in order[start : start + size]]
        yield torch.stack([c.image for c in cases]), torch.stack([c.target for c in cases])


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_two_small_batches_make_the_step_of_one_of_twice_the_size(tmp_path, optimiser):
    # 10 cases in batches of 2 by threes are steps of 6 and 4 cases, the last group incomplete.
    few = {"epochs": 2, "batch_size": 2, "accumulate": 3, "optimiser": optimiser}
    many = {"epochs": 2, "batch_size": 6, "optimiser": optimiser}
    (one, curve), (other, same) = trained(tmp_path / "a", **few), trained(tmp_path / "b", **many)
    torch.testing.assert_close(MADE.weights_of(one), MADE.weights_of(other), rtol=1e-5, atol=1e-6)
    assert curve[-1]["loss"] == pytest.approx(same[-1]["loss"], rel=1e-5)


def test_a_small_batch_in_the_last_group_weighs_by_its_cases(tmp_path):
    # 5 cases in batches of 2, all in one step: 2 + 2 + 1 cases, each weighing one fifth.
    cohort = MADE.classes_cohort(5)
    network, _ = trained(tmp_path, cohort, epochs=1, batch_size=2, accumulate=9, **BARE)
    own = MADE.small_lenet()
    (image, target) = next(batches_in_order(cohort, 5))
    nn.functional.cross_entropy(own(image), target).backward()
    for found, start in zip(network.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(found, start - 0.1 * 1.9 * start.grad)  # Nesterov: 1 + 0.9


@pytest.mark.parametrize("share", [0.1, 10.0])
def test_a_gradient_longer_than_clip_is_shortened_to_it(tmp_path, share):
    cohort, own = MADE.classes_cohort(6), MADE.small_lenet()
    (image, target) = next(batches_in_order(cohort, 6))
    nn.functional.cross_entropy(own(image), target).backward()
    length = math.sqrt(sum(p.grad.square().sum().item() for p in own.parameters()))
    clip = share * length
    network, _ = trained(tmp_path, cohort, epochs=1, batch_size=6, clip=clip, **BARE)
    for found, start in zip(network.parameters(), own.parameters(), strict=True):
        gradient = start.grad * min(1.0, share)
        torch.testing.assert_close(found, start - 0.19 * gradient, rtol=1e-4, atol=1e-7)


def test_clip_is_of_the_gradient_of_all_accumulated_batches(tmp_path):
    few = {"epochs": 1, "batch_size": 2, "accumulate": 5, "clip": 0.01}
    (one, _), (other, _) = (
        trained(tmp_path / "a", **few, **BARE),
        trained(tmp_path / "b", epochs=1, batch_size=10, clip=0.01, **BARE),
    )
    torch.testing.assert_close(MADE.weights_of(one), MADE.weights_of(other))


def test_the_cosine_schedule_is_torchs_and_stands_on_the_curve(tmp_path):
    settings = {"epochs": 5, "learning_rate": 0.3, "schedule": "cosine"}
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=5)
    expected = []
    for _ in range(5):
        expected.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    _, curve = trained(tmp_path, batch_size=10, optimiser="sgd", **settings)
    assert [row["learning_rate"] for row in curve] == pytest.approx(expected)
    assert [learning_rate(TrainSettings(**settings), e) for e in range(1, 6)] == pytest.approx(
        expected
    )


def test_each_epochs_step_is_as_long_as_its_learning_rate(tmp_path):
    cohort = MADE.classes_cohort(4)
    network, _ = trained(
        tmp_path, cohort, epochs=3, batch_size=4, schedule="cosine", optimiser="sgd",
        learning_rate=0.1,
    )  # fmt: skip
    own = MADE.small_lenet()
    optimiser = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for epoch in range(1, 4):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * (epoch - 1) / 3))
        (image, target) = next(batches_in_order(cohort, 4, epoch))
        optimiser.zero_grad()
        nn.functional.cross_entropy(own(image), target).backward()
        optimiser.step()
    torch.testing.assert_close(MADE.weights_of(network), MADE.weights_of(own))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_weighs_each_steps_weights_by_a_power_of_the_decay(decay):
    draw = torch.Generator().manual_seed(0)
    network, average, seen = nn.BatchNorm1d(3), Average(decay), []
    for step in range(7):
        with torch.no_grad():
            network.weight.copy_(torch.randn(3, generator=draw))
            network.running_mean.copy_(torch.randn(3, generator=draw))
            network.num_batches_tracked.fill_(step)
        average.update(network)
        seen.append((network.weight.detach().clone(), network.running_mean.clone()))
    powers = torch.tensor([decay ** (6 - i) for i in range(7)])
    for name, values in (("weight", 0), ("running_mean", 1)):
        stacked = torch.stack([pair[values] for pair in seen])
        expected = (powers[:, None] * stacked).sum(0) / powers.sum()
        torch.testing.assert_close(average.weights[name], expected)
    assert average.weights["num_batches_tracked"] == 6


def test_the_average_is_what_is_validated_and_kept(tmp_path):
    cohort, held_out = MADE.classes_cohort(6), MADE.classes_cohort(5, seed=9)
    common = {"epochs": 3, "batch_size": 3, "optimiser": "sgd", "learning_rate": 0.3}
    network, curve = trained(tmp_path / "a", cohort, held_out, average=0.8, **common)
    own, average = MADE.small_lenet(), Average(0.8)
    optimiser = torch.optim.SGD(own.parameters(), lr=0.3, momentum=0.9, nesterov=True)
    for epoch in range(1, 4):
        for image, target in batches_in_order(cohort, 3, epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(own(image), target).backward()
            optimiser.step()
            average.update(own)
    expected = torch.cat([w.flatten().double() for w in average.weights.values()])
    torch.testing.assert_close(MADE.weights_of(network), expected)
    assert not torch.allclose(MADE.weights_of(own), expected)
    batch = next(held_out.batches(5))
    loss = nn.functional.cross_entropy(network(batch.image), batch.target)
    assert curve[-1]["validation_loss"] == pytest.approx(loss.item(), rel=1e-5)
    # What is learned does not see the average.
    plain, _ = trained(tmp_path / "b", cohort, held_out, **common)
    torch.testing.assert_close(MADE.weights_of(plain), MADE.weights_of(own))


def test_weights_that_stand_in_leave_the_networks_own_to_the_bit():
    network = MADE.built(unet, preset="small")
    before = MADE.weights_of(network)
    other = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    with standing_in(network, other):
        assert not MADE.weights_of(network).any()
    assert torch.equal(MADE.weights_of(network), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 0}, "accumulate must be a whole number, at least 1, got 0"),
        ({"clip": 0}, "clip must be a finite number above 0, got 0"),
        ({"clip": math.inf}, "clip must be a finite number above 0, got inf"),
        ({"average": 1.0}, "average must be a number above 0 and below 1, got 1.0"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, got 'linear'"),
        ({"patience": 0}, "patience must be a whole number, at least 1, got 0"),
        ({"workers": -1}, "workers must be a whole number, at least 0, got -1"),
        ({"validation": ""}, "validation must be a text that is not empty, got ''"),
        ({"start": 3}, "start must be a text that is not empty, got 3"),
        ({"start_except": ["head"]}, "start_except is for start, which is missing"),
        ({"start": "a", "start_except": "head"}, "start_except must be a list of names"),
        ({"weight_decay": -1}, "weight_decay must be a finite number, at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_line(settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        TrainSettings(**settings)
    assert len(str(refused.value).splitlines()) == 1


def test_settings_younger_than_a_card_count_as_their_defaults():
    from robustbench_med.training.settings import with_defaults

    old = {
        "augment": "none", "batch_size": 16, "class_weights": "none", "defence": None,
        "epochs": 12, "learning_rate": 0.002, "loss": "dice_ce", "optimiser": "adam", "seed": 7,
        "weight_decay": 0.0,
    }  # fmt: skip
    now = TrainSettings(epochs=12, learning_rate=0.002, loss="dice_ce", seed=7)
    assert with_defaults(old) == now.described()
    assert with_defaults(old) != TrainSettings(epochs=12, loss="dice_ce", clip=1.0).described()
    assert "workers" not in now.described()
