"""Searches over a shift's parameters: known optima, enumeration, and more than random draws."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.attacks.physics import Physics
from robustbench_med.attacks.random_draws import RandomDraws
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build, names
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.searching import searched
from robustbench_med.streams import CaseRng

VALUES = Task("regression", ("value",))
FREE = (-float("inf"), float("inf"))
SEARCHES = [build("searches", name) for name in names("searches")]
every_search = pytest.mark.parametrize("search", SEARCHES, ids=names("searches"))


def rng_of(batch):
    return CaseRng(3, "physics", batch.case_ids)


def vectors(target):
    ids = tuple(f"c{i}" for i in range(len(target)))
    return Batch(ids, torch.zeros(len(target), target.shape[1]), target)


def closeness(output, batch, task):
    """Highest where the parameters are the case's target."""
    return -(output - batch.target).square().sum(dim=1)


def worst_of(search, target, ranges, *, smooth):
    """What `search` finds where the parameters themselves are the model's answer."""
    batch = vectors(target)

    def apply(parameters):
        image = torch.stack([parameters[name] for name in ranges], dim=1)
        return replace(batch, image=image if smooth else image.detach())

    model = TorchModel(nn.Identity(), VALUES, FREE)
    found = search(model, batch, ranges, apply, rng_of(batch))
    return torch.stack([found[name] for name in ranges], dim=1)


RANGES = {"angle": (-2.0, 4.0), "fixed": (1.5, 1.5), "shift": (0.0, 10.0), "width": (5.0, 6.0)}
INSIDE = torch.tensor([[1.0, 1.5, 9.0, 5.2], [-1.9, 1.5, 4.0, 5.9], [3.3, 1.5, 0.4, 5.5]])
OUTSIDE = torch.tensor([[5.0, 1.5, -1.0, 5.5], [-3.0, 1.5, 11.0, 7.0], [0.0, 1.5, 12.0, 4.0]])


@pytest.mark.parametrize("target", [INSIDE, OUTSIDE], ids=["inside", "outside"])
@pytest.mark.parametrize("smooth", [True, False])
def test_a_known_optimum_is_found_with_and_without_a_slope(target, smooth):
    search = Physics(budget=240, objective=closeness)
    found = worst_of(search, target, RANGES, smooth=smooth)
    low, high = (torch.tensor([limit[end] for limit in RANGES.values()]) for end in (0, 1))
    assert ((found >= low) & (found <= high)).all()
    off = (found - target).square().sum(dim=1)
    nearest = (target.clamp(low, high) - target).square().sum(dim=1)
    assert (off - nearest).max() < (1e-3 if smooth else 0.15)  # of up to 100


@pytest.mark.parametrize("smooth", [True, False])
def test_a_single_parameter_is_searched_too(smooth):
    target = torch.linspace(-0.5, 1.5, 40).unsqueeze(1)
    search = Physics(budget=48, objective=closeness)
    found = worst_of(search, target, {"only": (0.0, 1.0)}, smooth=smooth)
    assert (found - target.clamp(0, 1)).abs().max() < 0.02


def test_stages_that_are_left_out_do_without():
    only = Physics(budget=64, stages=["sobol"], objective=closeness)
    both = Physics(budget=64, stages=["sobol", "gradient"], objective=closeness)
    errors = [
        (worst_of(search, OUTSIDE, RANGES, smooth=True) - OUTSIDE).square().sum(dim=1)
        for search in (only, both)
    ]
    assert (errors[1] < errors[0]).all()


@every_search
def test_the_budget_is_what_is_asked_of_the_model_at_most(search):
    asked = []

    class Counting(nn.Module):
        def forward(self, image):
            asked.append(len(image))
            return image

    batch = vectors(INSIDE)
    for smooth in (True, False):
        asked.clear()

        def apply(parameters, smooth=smooth):
            image = torch.stack([parameters[name] for name in RANGES], dim=1)
            return replace(batch, image=image if smooth else image.detach())

        model = TorchModel(Counting(), VALUES, FREE)
        replace(search, budget=50)(model, batch, RANGES, apply, rng_of(batch))
        assert 35 <= len(asked) <= 50
        assert {*asked} == {3}


@every_search
def test_a_case_is_searched_alike_alone_and_in_any_batch(search):
    search = replace(search, budget=40, objective=closeness)
    together = worst_of(search, INSIDE, RANGES, smooth=True)
    assert torch.equal(together, worst_of(search, INSIDE, RANGES, smooth=True))
    # The ids decide the draws, so a case keeps them only under its own: the first one does.
    alone = worst_of(search, INSIDE[:1], RANGES, smooth=True)
    torch.testing.assert_close(alone, together[:1])


@every_search
def test_the_global_random_states_stay(search):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    worst_of(replace(search, budget=40, objective=closeness), INSIDE, RANGES, smooth=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_worst_gamma_of_an_enumeration_is_found():
    stream = torch.Generator().manual_seed(2)
    image = torch.rand(4, 1, 6, 6, generator=stream)
    batch = Batch(tuple("abcd"), image, torch.zeros(4, 1))

    class Wave(nn.Module):
        def forward(self, image):
            return 1 + torch.sin(9 * image.mean(dim=(1, 2, 3))).unsqueeze(1)

    model, shift = TorchModel(Wave(), VALUES, (0.0, 1.0)), build("shifts", "gamma")
    metric = {"error": lambda output, target: (output - target).square().mean(dim=1)}
    probe = searched("gamma", Physics(budget=64), shift, 4.0, metric)
    values = probe.measure(model, batch, rng_of(batch))
    assert probe.name == "gamma_worst@4"
    grid = torch.linspace(-0.6, 0.6, 801)
    with torch.no_grad():
        every = torch.stack([
            metric["error"](model(shift.apply(batch, {"log_gamma": g.expand(4)}).image), 0)
            for g in grid
        ])  # fmt: skip
    worst, where = every.max(dim=0)
    torch.testing.assert_close(values["error"], worst, atol=2e-3, rtol=0)
    assert (values["found.log_gamma"] - grid[where]).abs().max() < 0.05


def test_a_search_that_leaves_the_ranges_is_brought_back_and_severity_0_is_clean():
    def cheat(model, batch, ranges, apply, rng):
        return {name: torch.full((len(batch),), 99.0) for name in ranges}

    batch = Batch(tuple("ab"), torch.rand(2, 1, 6, 6), torch.zeros(2, 1))
    model = TorchModel(nn.Flatten(), VALUES, (0.0, 1.0))
    metric = {"mean": lambda output, target: output.mean(dim=1)}
    shift = build("shifts", "gamma")
    values = searched("gamma", cheat, shift, 2.0, metric).measure(model, batch, rng_of(batch))
    assert values["found.log_gamma"].tolist() == pytest.approx([0.3, 0.3])
    values = searched("gamma", cheat, shift, 0.0, metric).measure(model, batch, rng_of(batch))
    assert torch.equal(values["mean"], batch.image.flatten(1).mean(dim=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 7}, "budget must be a whole number, at least 8, got 7"),
        ({"budget": True}, "budget must be a whole number"),
        ({"stages": "sobol"}, "stages must be sobol and any of cma and gradient, got 'sobol'"),
        ({"stages": ["cma"]}, "stages must be sobol"),
        ({"stages": ["sobol", "adam"]}, "stages must be sobol"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Physics(**settings)


def test_a_missing_package_is_named_with_the_way_around(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"robustbench-med\[physics\].*leave it out"):
        Physics()
    Physics(stages=("sobol", "gradient"))


def test_a_shift_without_parameters_is_refused():
    with pytest.raises(InputError, match="'rician': has no parameters to search"):
        searched("rician", Physics(), build("shifts", "rician"), 1.0, {})


SIDE = 16


def shapes(count, seed):
    """Round and long blobs on a noisy background, `(b, 1, 16, 16)`, and which is which."""
    stream = torch.Generator().manual_seed(seed)
    long = torch.arange(count) % 2
    centre = 4 * torch.rand(count, 2, generator=stream) + 6
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    down, right = (axis - centre[:, i, None, None] for i, axis in enumerate((row, column)))
    distance = (down / 2) ** 2 + (right / (2 + 1.2 * long.view(-1, 1, 1))) ** 2
    noise = 0.3 * torch.rand(count, 16, 16, generator=stream)
    image = (noise + 0.5 * torch.exp(-distance)).clamp(0, 1).unsqueeze(1)
    ids = tuple(f"s{i}" for i in range(count))
    return Batch(ids, image, long, {"spacing": torch.full((count, 3), 1.0)})


@pytest.fixture(scope="module")
def trained():
    cases = shapes(256, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2),
        )  # fmt: skip
        optimiser = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(60):
            optimiser.zero_grad()
            F.cross_entropy(network(cases.image), cases.target).backward()
            optimiser.step()
    return TorchModel(network, Task("classification", ("round", "long")), (0.0, 1.0))


@pytest.mark.parametrize("name", ["gamma", "bias_field", "motion"])
def test_the_search_beats_as_many_random_draws_on_a_trained_model(trained, name):
    batch, shift, budget = shapes(24, 2), build("shifts", name), 64
    metric = {"loss": trained.task.loss}
    found, drawn = (
        searched(name, search(budget), shift, 3.0, metric).measure(trained, batch, rng_of(batch))[
            "loss"
        ]
        for search in (Physics, RandomDraws)
    )
    with torch.no_grad():
        clean = trained.task.loss(trained(batch.image), batch.target)
    gain = found - drawn
    assert drawn.mean() > clean.mean()  # the control does find something
    assert (gain >= -1e-5).float().mean() > 0.7
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5
