"""APGD against closed forms on linear models, and what its early exit promises."""

import math

import pytest
import torch
from torch import nn

from robustbench_med.attacks.adaptive_steps import windows
from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import ApgdTargeted
from robustbench_med.attacks.margins import Margin
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

FREE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)
NORMS = ["linf", "l2", "l1"]
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linear(classes, cases=6, shape=(2, 3, 4), kind="classification"):
    """A linear model in double precision, and cases that it gets right."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes)).double()
    nn.init.normal_(network[1].weight)
    nn.init.normal_(network[1].bias, std=0.2)
    model = TorchModel(network, Task(kind, tuple("abcdefgh"[:classes])), UNIT)
    image = torch.rand(cases, *shape, dtype=torch.float64)
    with torch.no_grad():
        output = model(image)
    truth = output.argmax(dim=1) if kind == "classification" else (output > 0).long()
    return model, Batch(tuple(f"c{i}" for i in range(cases)), image, truth)


def found_by(attack, model, batch, ball):
    return attack(model, batch, ball, CaseRng(1, "attack", batch.case_ids))


def margins(model, batch, image):
    with torch.no_grad():
        return Margin()(model(image, batch.context), batch, model.task)


def broken(model, batch, image):
    return margins(model, batch, image) > 0


def highest_linear(slope, image, ball):
    """The largest `slope . offset` that the ball allows, by its optimality conditions."""
    low, high = ball.bounds[0] - image, ball.bounds[1] - image
    if ball.norm == "linf":
        return (slope * torch.where(slope > 0, high.clamp(max=ball.eps),
                                    low.clamp(min=-ball.eps))).sum()  # fmt: skip
    if ball.norm == "l1":
        room, left, gain = torch.where(slope > 0, high, -low), ball.eps, 0.0
        for voxel in slope.abs().argsort(descending=True):
            spent = min(left, room[voxel].item())
            gain, left = gain + spent * slope[voxel].abs(), left - spent
        return gain
    least, most = 0.0, 1e6
    for _ in range(60):
        middle = (least + most) / 2
        longer = (middle * slope).clamp(low, high).norm() > ball.eps
        least, most = (least, middle) if longer else (middle, most)
    return slope @ (least * slope).clamp(low, high)


def worst_margins(model, batch, ball):
    """The exact largest margin of each case: the best over all wrong answers."""
    weight, bias = model.network[1].weight.detach(), model.network[1].bias.detach()
    exact = []
    for image, truth in zip(batch.image.flatten(start_dim=1), batch.target, strict=True):
        if model.task.kind == "multilabel":
            sides = 1 - 2 * truth.double()
            rows = [(s * w, s * b) for s, w, b in zip(sides, weight, bias, strict=True)]
        else:
            rows = [
                (weight[i] - weight[truth], bias[i] - bias[truth])
                for i in range(len(weight))
                if i != truth
            ]
        exact.append(max(w @ image + b + highest_linear(w, image, ball) for w, b in rows))
    return torch.stack(exact)


@pytest.mark.parametrize("bounds", [FREE, UNIT], ids=["free", "bounded"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 0.9), ("l1", 1.5)])
def test_on_two_linear_classes_the_margin_ends_at_its_closed_form(norm, eps, bounds):
    model, batch = linear(2)
    ball = Ball(norm, eps, bounds)
    found = found_by(Apgd(objective="task"), model, batch, ball)
    exact = worst_margins(model, batch, ball)
    torch.testing.assert_close(margins(model, batch, found), exact, atol=1e-6, rtol=1e-6)
    assert (per_case_norm(found - batch.image, norm) <= eps + 1e-9).all()


def at_the_middle_margin(model, batch, norm, bounds=UNIT):
    """A ball that breaks half of the cases: in no case is its size a close call."""
    eps = {"linf": 0.1, "l2": 0.3, "l1": 0.7}[norm]
    for factor in (1.0, 0.8, 1.2, 0.6, 1.5, 0.4, 2.0, 0.3, 0.2, 0.1):
        ball = Ball(norm, factor * eps, bounds)
        exact = worst_margins(model, batch, ball)
        share = (exact > 0).double().mean()
        if 0.2 < share < 0.8 and exact.abs().min() > 1e-3:
            return ball, exact > 0
    raise AssertionError("no such ball")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_towards_every_class_a_linear_model_breaks_where_the_closed_form_says(classes, norm):
    model, batch = linear(classes, cases=10)
    ball, expected = at_the_middle_margin(model, batch, norm)
    found = found_by(ApgdTargeted(steps=50), model, batch, ball)
    assert torch.equal(broken(model, batch, found), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("flags", [1, 3])
def test_towards_every_flag_thresholds_fall_where_the_closed_form_says(flags, norm):
    model, batch = linear(flags, cases=10, kind="multilabel")
    ball, expected = at_the_middle_margin(model, batch, norm)
    found = found_by(ApgdTargeted(steps=50), model, batch, ball)
    assert torch.equal(broken(model, batch, found), expected)


def test_only_so_many_targets_are_tried():
    model, batch = linear(6, cases=10)
    ball, expected = at_the_middle_margin(model, batch, "linf")
    one = broken(model, batch, found_by(ApgdTargeted(targets=1), model, batch, ball))
    assert not (one & ~expected).any()
    calls = Counting(model)
    found_by(ApgdTargeted(steps=5, targets=2), calls, batch, Ball("linf", 1e-6, UNIT))
    assert sum(calls.sizes) == len(batch) * (2 + 2 * 6)


class Counting:
    """A model that writes down how many cases it was asked about at each call."""

    def __init__(self, model):
        self.model, self.task, self.bounds, self.sizes = model, model.task, model.bounds, []

    def __call__(self, image, context=None):
        self.sizes.append(len(image))
        return self.model(image, context)


@pytest.mark.parametrize("objective", ["ce", "margin", "dlr"])
def test_a_case_that_is_broken_is_not_asked_about_again(objective):
    model, batch = linear(4, cases=20)
    ball, _ = at_the_middle_margin(model, batch, "linf")
    calls = Counting(model)
    found = found_by(Apgd(objective=objective), calls, batch, ball)
    survivors = (~broken(model, batch, found)).sum().item()
    assert 0 < survivors < len(batch)
    assert calls.sizes == sorted(calls.sizes, reverse=True)
    assert calls.sizes[-1] == survivors
    assert len(calls.sizes) == 1 + 100 + 1


def test_the_task_loss_is_raised_to_the_last_step_by_every_case():
    model, batch = linear(4, cases=20)
    calls = Counting(model)
    ball, _ = at_the_middle_margin(model, batch, "linf")
    found_by(Apgd(steps=10, objective="task"), calls, batch, ball)
    assert calls.sizes == [20] * 11


def test_an_early_exit_breaks_what_a_search_to_the_end_breaks():
    model, batch, ball = curved()
    whole = found_by(Apgd(objective="task"), model, batch, ball)
    early = found_by(Apgd(objective="ce"), model, batch, ball)
    assert not (broken(model, batch, whole) & ~broken(model, batch, early)).any()
    assert 0 < broken(model, batch, whole).sum() < len(batch)


def curved(cases=40):
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 5)).double()
    nn.init.normal_(network[1].weight)
    model = TorchModel(network, Task("classification", tuple("abcde")), UNIT)
    image = torch.rand(cases, 2, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        truth = model(image).argmax(dim=1)
    batch = Batch(tuple(f"c{i}" for i in range(cases)), image, truth)
    return model, batch, Ball("linf", 0.06, UNIT)


@pytest.mark.parametrize("attack", [Apgd(steps=30), ApgdTargeted(steps=20)])
@pytest.mark.parametrize("norm", NORMS)
def test_what_happens_to_a_case_depends_on_no_other(attack, norm):
    model, batch, _ = curved(8)
    ball = Ball(norm, {"linf": 0.05, "l2": 0.2, "l1": 0.6}[norm], UNIT)
    together = found_by(attack, model, batch, ball)
    alone = torch.cat([found_by(attack, model, batch[i], ball) for i in range(len(batch))])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert 0 < broken(model, batch, together).sum() < len(batch)


@pytest.mark.parametrize("attack", [Apgd(steps=20), Apgd(steps=20, objective="margin"),
                                    ApgdTargeted(steps=20)])  # fmt: skip
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", 5.0), ("l1", 24.0)])
def test_a_ball_in_which_everything_must_break_breaks_everything(attack, norm, eps):
    model, batch, _ = curved()
    found = found_by(attack, model, batch, Ball(norm, eps, UNIT))
    assert broken(model, batch, found).all()


def test_a_case_that_is_wrong_already_keeps_its_clean_image():
    model, batch = linear(3)
    turned = Batch(batch.case_ids, batch.image, (batch.target + 1) % 3)
    for attack in (Apgd(), ApgdTargeted()):
        assert torch.equal(found_by(attack, model, turned, Ball("l2", 0.5)), batch.image)


@pytest.mark.parametrize("norm", NORMS)
def test_units_and_support_are_honoured(norm):
    model, batch = linear(2)
    mask = torch.zeros(len(batch), 1, 3, 4, dtype=torch.float64)
    mask[:, :, 1:] = 1
    noise = torch.linspace(0.05, 0.3, len(batch), dtype=torch.float64)
    batch = Batch(batch.case_ids, batch.image, batch.target, {"free": mask, "noise": noise})
    ball = Ball(norm, 2.0, FREE, unit="noise", support="free")
    found = found_by(Apgd(objective="task"), model, batch, ball)
    still = mask.expand_as(found) == 0
    assert torch.equal(found[still], batch.image[still])
    slope = (model.network[1].weight[1] - model.network[1].weight[0]).detach().view(2, 3, 4)
    size = torch.linalg.vector_norm((slope * mask[0]).flatten(), DUAL[norm])
    gained = margins(model, batch, found) - margins(model, batch, batch.image)
    torch.testing.assert_close(gained, 2 * noise * size, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_regression_s_squared_error_ends_at_its_closed_form(norm):
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 1)).double()
    model = TorchModel(network, Task("regression", ("v",)), FREE)
    image = torch.rand(4, 1, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        error = 3 * torch.tensor([[1.0], [-1.0], [2.0], [-2.0]], dtype=torch.float64)
        batch = Batch(tuple("abcd"), image, model(image) - error)
        found = found_by(Apgd(objective="task"), model, batch, Ball(norm, 0.4))
        risen = (model(found) - batch.target).square()
    size = torch.linalg.vector_norm(network[1].weight.detach().flatten(), DUAL[norm])
    torch.testing.assert_close(risen, (error.abs() + 0.4 * size).square(), atol=1e-6, rtol=1e-6)


def test_a_segmentation_is_raised_to_the_end_with_its_task_loss():
    network = nn.Conv2d(1, 2, 3, padding=1)
    model = TorchModel(network, Task("segmentation", ("a", "b")), UNIT)
    image = torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        batch = Batch(("a", "b"), image, model(image).argmax(dim=1))
        clean = model.task.loss(model(image), batch.target)
        found = found_by(Apgd(steps=10, objective="task"), model, batch, Ball("linf", 0.05, UNIT))
        assert (model.task.loss(model(found), batch.target) > clean).all()


def test_a_case_whose_loss_is_no_number_keeps_its_clean_image():
    class Root(nn.Module):
        def forward(self, image):
            return (image - 0.5).sqrt().flatten(start_dim=1)

    model = TorchModel(Root(), Task("regression", ("x",)), FREE)
    image = torch.tensor([0.1, 0.9]).view(2, 1, 1)
    batch = Batch(("a", "b"), image, torch.zeros(2, 1))
    found = found_by(Apgd(steps=5, objective="task"), model, batch, Ball("linf", 0.05))
    assert found[0] == image[0]
    assert found[1].item() == pytest.approx(0.95)


def test_the_steps_are_looked_at_where_the_paper_says():
    # p = 0, 0.22, then each interval 0.03 shorter than the last and at least 0.06.
    shares, last = [0.0, 0.22], 0.22
    while shares[-1] + max(last - 0.03, 0.06) <= 1:
        last = max(last - 0.03, 0.06)
        shares.append(shares[-1] + last)
    expected = [round(100 * share) for share in shares[1:]]
    assert list(windows(100, "linf")) == expected
    assert list(windows(100, "l1")) == list(range(4, 101, 4))
    assert list(windows(3, "l2")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Apgd(steps=0), "apgd: steps must be a whole number, at least 1, got 0"),
        (lambda: Apgd(restarts=True), "restarts must be a whole number"),
        (lambda: Apgd(restarts=2, random_start=False), "repeat one search"),
        (lambda: ApgdTargeted(targets=0), "apgd_targeted: targets must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(build, told):
    with pytest.raises(InputError, match=told):
        build()


@pytest.mark.parametrize("attack", [Apgd(), ApgdTargeted()])
def test_a_task_that_does_not_fit_is_refused_with_what_does(attack):
    model = TorchModel(nn.Flatten(), Task("regression", ("v",)), FREE)
    batch = Batch(("a",), torch.zeros(1, 1), torch.zeros(1, 1))
    with pytest.raises(UnsupportedError, match="got regression; use apgd or pgd with objective"):
        found_by(attack, model, batch, Ball("linf", 0.1))
    model, batch = linear(2)
    wrong = Batch(batch.case_ids, batch.image, 1 - batch.target)
    with pytest.raises(UnsupportedError, match="dlr: needs a classification into 3"):
        found_by(Apgd(objective="dlr"), model, wrong, Ball("linf", 0.1))
