"""FGSM and PGD against closed forms, and what PGD promises beyond them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.pgd import Pgd, anywhere
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


FREE = (-float("inf"), float("inf"))
PAIR = Task("classification", ("a", "b"))
ATTACKS = [Fgsm(), Pgd(steps=100), Pgd(steps=10, random_start=False)]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=["fgsm", "pgd", "pgd-from-clean"])


class Margin(nn.Module):
    """Logits `(m, -m)` with `m = w . image`, so the margin is `2 m`."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image):
        margin = image.flatten(start_dim=1) @ self.weight.flatten()
        return torch.stack([margin, -margin], dim=1)


def margins(model, image, target):
    with torch.no_grad():
        logits = model(image)
    sign = 1 - 2 * target
    return sign * (logits[:, 0] - logits[:, 1])


def linear_case(seed=0, cases=6, shape=(2, 4, 3)):
    stream = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=stream) / 5
    image = torch.rand((cases, *shape), generator=stream)
    target = torch.arange(cases) % 2
    batch = Batch(tuple(f"c{i}" for i in range(cases)), image, target)
    return TorchModel(Margin(weight), PAIR, (0.0, 1.0)), weight, batch


def attack_with(attack, model, batch, ball):
    return attack(model, batch, ball, CaseRng(1, "attack", batch.case_ids))


@every_attack
@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
def test_on_a_linear_model_the_margin_falls_by_eps_times_the_dual_norm(attack, norm, dual):
    model, weight, batch = linear_case()
    found = attack_with(attack, model, batch, Ball(norm, 0.3))
    slope = 2 * per_case_norm(weight.unsqueeze(0), dual).flatten()
    expected = margins(model, batch.image, batch.target) - 0.3 * slope
    torch.testing.assert_close(margins(model, found, batch.target), expected, atol=1e-5, rtol=1e-5)


@every_attack
def test_on_a_linear_model_active_bounds_give_the_worst_corner_of_the_box(attack):
    model, weight, batch = linear_case(seed=3)
    low, high = (batch.image - 0.4).clamp(min=0), (batch.image + 0.4).clamp(max=1)
    downhill = (1 - 2 * batch.target).view(-1, 1, 1, 1) * weight
    corner = torch.where(downhill > 0, low, high)
    found = attack_with(attack, model, batch, Ball("linf", 0.4, (0.0, 1.0)))
    torch.testing.assert_close(found, corner, atol=1e-6, rtol=0)


def test_fgsm_under_l1_moves_the_one_most_sensitive_voxel():
    model, weight, batch = linear_case()
    moved = attack_with(Fgsm(), model, batch, Ball("l1", 0.5)) - batch.image
    assert (moved.flatten(start_dim=1).abs() > 1e-6).sum(dim=1).tolist() == [1] * len(batch)
    assert (moved.flatten(start_dim=1).abs().argmax(dim=1) == weight.abs().argmax()).all()


@every_attack
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_units_and_support_are_honoured(attack, norm):
    model, weight, batch = linear_case()
    mask = torch.zeros(len(batch), 1, 4, 3)
    mask[:, :, 1:3] = 1
    noise = torch.linspace(0.05, 0.3, len(batch))
    context = {"acquired": mask, "noise": noise}
    batch = Batch(batch.case_ids, batch.image, batch.target, context)
    found = attack_with(attack, model, batch, Ball(norm, 2.0, unit="noise", support="acquired"))
    still = mask.expand_as(found) == 0
    assert torch.equal(found[still], batch.image[still])
    dual = {"linf": "l1", "l2": "l2"}[norm]
    slope = 2 * per_case_norm((weight * mask[0]).unsqueeze(0), dual).flatten()
    expected = margins(model, batch.image, batch.target) - 2 * noise * slope
    torch.testing.assert_close(margins(model, found, batch.target), expected, atol=1e-5, rtol=1e-5)


class Cliff(nn.Module):
    """A regression whose error peaks inside the ball and falls again: overshooting loses."""

    def forward(self, image):
        value = image.flatten(start_dim=1).mean(dim=1, keepdim=True)
        return (3 * value).sin()


def test_pgd_returns_the_best_image_it_saw_and_not_the_last():
    model = TorchModel(Cliff(), Task("regression", ("x",)), FREE)
    batch = Batch(("a",), torch.full((1, 1, 2, 2), 0.45), torch.zeros(1, 1))
    found = attack_with(Pgd(steps=9, step_size=1.0, random_start=False), model, batch,
                        Ball("linf", 0.1))  # fmt: skip
    # Steps of the whole radius jump between 0.55 and 0.45: sin(1.65) beats sin(1.35).
    assert found.mean().item() == pytest.approx(0.55)


def test_more_restarts_never_find_less():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 20), nn.Tanh(), nn.Linear(20, 2))
    network[1].weight.data *= 8
    model = TorchModel(network, PAIR, FREE)
    batch = Batch(tuple("abcd"), torch.randn(4, 1, 3, 3), torch.tensor([0, 1, 0, 1]))
    losses = []
    for restarts in (1, 4):
        found = attack_with(Pgd(steps=3, restarts=restarts), model, batch, Ball("linf", 0.5))
        with torch.no_grad():
            losses.append(model.task.loss(model(found), batch.target))
    assert (losses[1] >= losses[0]).all()
    assert (losses[1] > losses[0]).any()


TASKS = [
    ("segmentation", (2, 3, 6, 6), nn.Conv2d(3, 2, 3, padding=1), torch.zeros(2, 6, 6).long()),
    ("segmentation", (2, 1, 3, 4, 4), nn.Conv3d(1, 2, 3, padding=1), torch.ones(2, 3, 4, 4).long()),
    ("multilabel", (2, 1, 4, 4), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
     torch.tensor([[1, 0, 1], [0, 0, 1]])),
    ("reconstruction", (2, 2, 5, 5), nn.Conv2d(2, 1, 3, padding=1), torch.zeros(2, 1, 5, 5)),
]  # fmt: skip


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("kind", "shape", "network", "target"), TASKS,
                         ids=["2-D mask", "3-D mask", "flags", "image"])  # fmt: skip
def test_every_task_and_shape_is_attacked_case_by_case(kind, shape, network, target, norm):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
        image = torch.rand(shape)
    classes = tuple("abc"[: 3 if kind == "multilabel" else 2])
    model = TorchModel(network, Task(kind, classes), (0.0, 1.0))
    batch = Batch(("a", "b"), image, target)
    ball = Ball(norm, 0.05 if norm == "linf" else 0.5, (0.0, 1.0))
    found = attack_with(Pgd(steps=10), model, batch, ball)
    with torch.no_grad():
        clean, after = (model.task.loss(model(x), target) for x in (image, found))
    assert (after > clean).all()
    alone = torch.cat([attack_with(Pgd(steps=10), model, batch[i], ball) for i in range(2)])
    torch.testing.assert_close(alone, found, atol=1e-5, rtol=0)


def test_random_starts_under_l2_are_uniform_in_the_ball():
    class Flat(nn.Module):
        def forward(self, image):
            return image.flatten(start_dim=1) * 0

    cases = 400
    model = TorchModel(Flat(), Task("regression", ("x",)), FREE)
    image = torch.zeros(cases, 1, 2)
    batch = Batch(tuple(map(str, range(cases))), image, torch.zeros(cases, 2))
    start = attack_with(Pgd(steps=1), model, batch, Ball("l2", 3.0))
    share = per_case_norm(start, "l2").flatten() / 3
    assert share.max() <= 1 + 1e-6
    # In two dimensions a quarter of the ball lies within half of its radius.
    assert (share < 0.5).float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_a_case_whose_loss_is_no_number_keeps_its_clean_image():
    class Root(nn.Module):
        def forward(self, image):
            return (image - 0.5).sqrt().flatten(start_dim=1)

    model = TorchModel(Root(), Task("regression", ("x",)), FREE)
    image = torch.tensor([0.1, 0.9]).view(2, 1, 1)
    found = attack_with(Pgd(steps=5), model, Batch(("a", "b"), image, torch.zeros(2, 1)),
                        Ball("linf", 0.05))  # fmt: skip
    assert found[0] == image[0]
    assert found[1].item() == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"restarts": 0}, "restarts must be a whole number"),
        ({"step_size": 0.0}, "step_size must be above 0 and finite"),
        ({"step_size": "0.1"}, "step_size must be above 0 and finite"),
        ({"restarts": 2, "random_start": False}, "repeat one search"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Pgd(**settings)


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("bounds", [FREE, (0.0, 1.0), (-0.2, 1.5)])
@pytest.mark.parametrize("support", [None, "free"])
def test_on_a_linear_model_pgd_finds_the_worst_image_under_l1(random_start, bounds, support):
    model, weight, batch = linear_case(seed=4)
    batch = replace(batch, image=batch.image.double())
    model.network.double()
    free = torch.rand(batch.image.shape, generator=torch.Generator().manual_seed(8)) < 0.7
    batch = replace(batch, context={"free": free})
    ball = Ball("l1", 2.5, bounds, support=support)
    found = attack_with(Pgd(steps=60, random_start=random_start), model, batch, ball)
    moved = found - batch.image
    assert (per_case_norm(moved, "l1") <= 2.5 * (1 + 1e-12)).all()
    after = margins(model, found, batch.target)
    sign, low, high = 1 - 2 * batch.target, *bounds
    for case in range(len(batch)):
        slope = (sign[case] * 2 * weight.double()).flatten().numpy()
        image, loose = batch.image[case].flatten().numpy(), free[case].flatten().numpy()
        room = (
            np.where(loose | (support is None), side, 0) for side in (high - image, image - low)
        )
        limits = [(0, None if np.isinf(b) else b) for b in np.concatenate(list(room))]
        best = linprog(np.concatenate([slope, -slope]), A_ub=np.ones((1, len(limits))),
                       b_ub=[2.5], bounds=limits)  # fmt: skip
        clean = margins(model, batch.image[case : case + 1], batch.target[case : case + 1])
        assert float(after[case] - clean) == pytest.approx(best.fun, abs=1e-6)


@pytest.mark.parametrize("case", [Ball("l1", 0.0), Ball("l1", 1.0, unit="noise")])
def test_pgd_under_l1_without_a_radius_stays(case):
    model, _, batch = linear_case()
    batch = replace(batch, context={"noise": torch.zeros(len(batch))})
    assert torch.equal(attack_with(Pgd(steps=3), model, batch, case), batch.image)


def test_a_random_start_under_l1_is_uniform_in_the_ball():
    image = torch.zeros(4000, 1, 3)
    rng = CaseRng(1, "start", tuple(str(i) for i in range(4000)))
    point = anywhere(image, Ball("l1", 1.0), rng)
    length = per_case_norm(point, "l1").flatten()
    assert length.max() <= 1 + 1e-6
    for radius in (0.5, 0.8):  # the share of a smaller ball is its share of the volume
        assert (length <= radius).double().mean() == pytest.approx(radius**3, abs=0.03)
    share = point.abs().flatten(1) / length.unsqueeze(1)  # uniform on the simplex: beta(1, 2)
    assert share.mean(dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert share.var(dim=0).tolist() == pytest.approx([1 / 18] * 3, abs=0.005)
    assert (point > 0).double().mean() == pytest.approx(0.5, abs=0.02)


@every_attack
def test_a_support_that_the_batch_lacks_is_named(attack):
    model, _, batch = linear_case()
    with pytest.raises(InputError, match="needs 'acquired' in the case's context"):
        attack_with(attack, model, batch, Ball("linf", 0.1, support="acquired"))
