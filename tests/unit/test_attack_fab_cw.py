"""FAB and Carlini-Wagner against exact margins of linear models, and against torchattacks."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from robustbench_med.attacks.cw import Cw
from robustbench_med.attacks.fab import Fab
from robustbench_med.attacks.torchattacks_bridge import _attack_class
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.threat import Ball, per_case_norm

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("attacks_fixture.py"))))
run, still_right, trained = MADE.run, MADE.still_right, MADE.trained
FREE = (-float("inf"), float("inf"))
BOUNDS = [FREE, (0.0, 1.0), (0.0, float("inf"))]


def linear_model(classes=2, *, kind="classification", voxels=24, seed=0):
    stream = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(voxels, classes)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(classes, voxels, generator=stream))
        network[1].bias.zero_()
    return TorchModel(network, Task(kind, tuple("abcdef"[:classes])), FREE)


def batch_of(model, cases=8, seed=1, shape=(2, 4, 3), context=()):
    """Cases that the model gets right, many of their voxels at 0 or 1."""
    stream = torch.Generator().manual_seed(seed)
    image = (1.6 * torch.rand(cases, *shape, generator=stream) - 0.3).clamp(0, 1).double()
    with torch.no_grad():
        output = model(image)
    target = output.argmax(dim=1) if model.task.kind == "classification" else (output > 0).long()
    return Batch(tuple(f"c{i}" for i in range(cases)), image, target, dict(context))


def exact_distance(image, normal, value, bounds, norm):
    """Shortest way of one image to `value + normal . move = 0` in the bounds.

    By bisection; under l1 a linear programme.
    """
    normal, image = normal.flatten(), image.flatten()
    way = -normal * value.sign()
    low, high = bounds[0] - image, bounds[1] - image
    if norm == "l1":
        up = way[None].numpy()
        rooms = [*((0, room) for room in high.tolist()), *((0, -room) for room in low.tolist())]
        solved = optimize.linprog(torch.ones(2 * len(way)).numpy(), bounds=rooms,
                                  A_eq=np.hstack([up, -up]), b_eq=[value.abs().item()])  # fmt: skip
        return solved.fun if solved.success else float("inf")

    def left(length):
        step = length * (way.sign() if norm == "linf" else way)
        return (value.abs() - way @ step.clamp(low, high)).item()

    if left(1e6) > 0:
        return float("inf")
    length = optimize.brentq(left, 0, 1e6, xtol=1e-15, rtol=1e-14)
    step = length * (way.sign() if norm == "linf" else way)
    return per_case_norm(step.clamp(low, high)[None], norm).item()


def distances(model, batch, bounds, norm, active=1.0):
    """Nearest wrong answer of each case over all classes or flags, exactly."""
    weight, output = model.network[1].weight.detach(), model(batch.image).detach()
    found = []
    for case in range(len(batch)):
        if model.task.kind == "multilabel":
            planes = [(weight[k], output[case, k]) for k in range(len(weight))]
        else:
            true = int(batch.target[case])
            planes = [(weight[k] - weight[true], output[case, k] - output[case, true])
                      for k in range(len(weight)) if k != true]  # fmt: skip
        found.append(min(exact_distance(batch.image[case], normal * active, value, bounds, norm)
                         for normal, value in planes))  # fmt: skip
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_between_two_classes_fab_finds_the_exact_distance(norm, bounds):
    model = linear_model()
    batch = batch_of(model)
    found = run(Fab(steps=5), model, batch, Ball(norm, 100.0, bounds))
    assert still_right(model, batch, found) == 0
    exact = distances(model, batch, bounds, norm)
    assert exact.isfinite().all()
    moved = per_case_norm(found - batch.image, norm).flatten()
    torch.testing.assert_close(moved, exact, rtol=1e-5, atol=0)
    free = distances(model, batch, FREE, norm)
    assert bounds == FREE or (exact > free * (1 + 1e-3)).any(), "the bounds are in nobody's way"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_fab_breaks_just_those_balls_that_reach_the_nearest_of_many_answers(norm, kind):
    model = linear_model(6, kind=kind)
    batch = batch_of(model, cases=4)
    exact = distances(model, batch, (0.0, 1.0), norm)
    for case in range(4):
        for share, moves in ((1 + 1e-5, True), (1 - 1e-5, False)):
            ball = Ball(norm, exact[case].item() * share, (0.0, 1.0))
            found = run(Fab(steps=5), model, batch[case], ball)
            assert torch.equal(found, batch[case].image) != moves


@pytest.mark.parametrize(
    ("attack", "norm"),
    [*((Fab(steps=5), norm) for norm in ("linf", "l2", "l1")),
     *((Cw(steps=200), norm) for norm in ("linf", "l2"))],
)  # fmt: skip
def test_off_the_support_nothing_moves_and_on_it_the_margin_is_met(attack, norm):
    model = linear_model()
    mask = torch.zeros(1, 4, 3).double()
    mask[:, 1:] = 1
    batch = batch_of(model)
    batch = Batch(batch.case_ids, batch.image, batch.target, {"mask": mask.expand(8, 1, 4, 3)})
    active = mask.expand(2, 4, 3).flatten()
    exact = distances(model, batch, (0.0, 1.0), norm, active)
    eps = exact[exact.isfinite()].median().item() * 1.03
    found = run(attack, model, batch, Ball(norm, eps, (0.0, 1.0), support="mask"))
    off = (mask == 0).expand_as(found)
    assert torch.equal(found[off], batch.image[off])
    wrong = model(found).argmax(dim=1) != batch.target
    assert torch.equal(wrong, exact <= eps)
    assert wrong.any()
    assert not wrong.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_cw_breaks_a_ball_just_above_the_margin_whatever_bounds_and_logits(norm, bounds, scale):
    model = linear_model()
    batch = batch_of(model, cases=4)
    exact = distances(model, batch, bounds, norm)
    with torch.no_grad():
        model.network[1].weight.mul_(scale)
    for case in range(2):
        ball = Ball(norm, exact[case].item() * 1.03, bounds)
        found = run(Cw(steps=150), model, batch[case], ball)
        assert still_right(model, batch[case], found) == 0
        assert per_case_norm(found - batch[case].image, norm).item() <= ball.eps * (1 + 1e-7)
        below = Ball(norm, exact[case].item() * 0.999, bounds)
        assert still_right(model, batch[case], run(Cw(steps=20), model, batch[case], below)) == 1


def test_cw_moves_voxels_that_lie_at_a_bound():
    model = linear_model()
    batch = batch_of(model)
    batch = Batch(batch.case_ids, batch.image.round(), batch.target)
    with torch.no_grad():
        batch = Batch(batch.case_ids, batch.image, model(batch.image).argmax(dim=1))
    for norm, eps in (("linf", 1.0), ("l2", 5.0)):
        assert still_right(model, batch, run(Cw(), model, batch, Ball(norm, eps, (0, 1)))) == 0


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.4)])
def test_on_a_trained_network_no_more_than_one_case_stands_that_torchattacks_breaks(norm, eps):
    model, batch = trained()
    ball = Ball(norm, eps, (0.0, 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = _attack_class("FAB")(
            model.network, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=10, n_classes=4,
            multi_targeted=True,
        )  # fmt: skip
        theirs = [ball.project(peer(batch.image, batch.target).detach(), batch.image)]
        if norm == "l2":
            peer = _attack_class("CW")(model.network, c=1, steps=200, lr=0.01)
            theirs.append(ball.project(peer(batch.image, batch.target).detach(), batch.image))
    for parameter in model.network.parameters():
        parameter.grad = None
    stand = min(still_right(model, batch, image) for image in theirs)
    assert 5 < stand < 55
    for attack in (Fab(steps=10), Cw()):
        found = ball.project(run(attack, model, batch, ball), batch.image)
        assert still_right(model, batch, found) <= stand + 1


def test_a_case_that_is_wrong_already_is_left_as_it_is():
    model = linear_model()
    batch = batch_of(model)
    wrong = Batch(batch.case_ids, batch.image, 1 - batch.target)
    for attack in (Fab(steps=3), Cw(steps=3)):
        assert torch.equal(run(attack, model, wrong, Ball("l2", 9.0)), batch.image)


def test_more_restarts_of_fab_never_break_fewer():
    model, batch = trained()
    ball = Ball("linf", 0.02, (0.0, 1.0))
    one, two = (run(Fab(steps=2, restarts=n), model, batch, ball) for n in (1, 2))
    assert still_right(model, batch, two) <= still_right(model, batch, one)
    assert torch.equal(two, run(Fab(steps=2, restarts=2), model, batch, ball))


@pytest.mark.parametrize("attack", [Fab(), Cw()], ids=["fab", "cw"])
def test_other_tasks_are_refused_with_what_to_use(attack):
    name = type(attack).__name__.lower()
    model = linear_model(kind="regression")
    batch = Batch(("a",), torch.zeros(1, 2, 4, 3).double(), torch.zeros(1, 2).double())
    with pytest.raises(
        UnsupportedError, match=f"{name}: needs a task of classification or multilabel"
    ):
        run(attack, model, batch, Ball("l2", 1.0))


def test_cw_refuses_l1():
    model = linear_model()
    with pytest.raises(UnsupportedError, match="cw: searches linf and l2 balls, got l1"):
        run(Cw(), model, batch_of(model), Ball("l1", 1.0))


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (Fab, {"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        (Fab, {"targets": True}, "targets must be a whole number"),
        (Fab, {"overshoot": 0.9}, "overshoot must be at least 1"),
        (Fab, {"backward": 1.0}, "backward must be above 0 and below 1"),
        (Fab, {"pull": 2.0}, "pull must be from 0 to 1"),
        (Cw, {"searches": 0}, "searches must be a whole number"),
        (Cw, {"weight": 0.0}, "weight must be above 0 and finite"),
        (Cw, {"step_size": float("inf")}, "step_size must be above 0 and finite"),
        (Cw, {"confidence": -1.0}, "confidence must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build(**settings)
