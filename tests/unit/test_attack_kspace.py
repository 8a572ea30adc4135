"""Attacks on measured k-space: the worst change of a linear reconstruction is known exactly."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.probes import attacked
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

TASK = Task("reconstruction")
FREE = (-float("inf"), float("inf"))
SIZE = (12, 10)
# From a random start a search of a convex loss can end in a corner that is only locally the worst.
ATTACKS = [Fgsm(), Pgd(random_start=False), Pgd(steps=10, random_start=False)]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=["fgsm", "pgd", "pgd-10"])
UNITS = pytest.mark.parametrize(("unit", "eps"), [("noise", 3.0), ("fraction", 0.05)])


class ZeroFilled(nn.Module):
    """The adjoint of the measurement, with or without coils."""

    def forward(self, image, context):
        maps = to_complex(context["maps"]) if "maps" in context else None
        return to_channels(adjoint(to_complex(image), maps, context["mask"])[:, None])


MODEL = TorchModel(ZeroFilled(), TASK, FREE)


def batch_of(cases=4, coils=1, size=SIZE, noise=0.02):
    """Measured k-space of random images: every other line, and the middle ones."""
    stream = torch.Generator().manual_seed(0)
    height, width = size
    truth = torch.complex(*torch.rand(2, cases, height, width, generator=stream))
    mask = torch.zeros(cases, 1, height, width)
    mask[:, :, ::2] = 1
    mask[:, :, height // 2 - 1 : height // 2 + 1] = 1
    context = {"mask": mask, "noise": torch.linspace(noise, 2 * noise, cases)}
    maps = None
    if coils > 1:
        drawn = torch.complex(*torch.randn(2, cases, coils, height, width, generator=stream))
        maps = drawn / drawn.abs().square().sum(dim=1, keepdim=True).sqrt()
        context["maps"] = to_channels(maps)
    kspace = to_channels(forward(truth, maps, mask))
    sigma = context["noise"].view(-1, 1, 1, 1)
    kspace = kspace + mask * sigma * torch.randn(kspace.shape, generator=stream)
    ids = tuple(f"case-{i}" for i in range(cases))
    return Batch(ids, kspace, to_channels(truth[:, None]), context)


def found_by(attack, batch, ball):
    found = attack(MODEL, batch, ball, CaseRng(1, "k", batch.case_ids))
    return ball.project(found, batch.image, batch.context)


def squared_error(image, batch):
    with torch.no_grad():
        error = MODEL(image, batch.context) - batch.target
    return error.double().square().flatten(start_dim=1).sum(dim=1)


def error_in_kspace(batch):
    """Of one coil: the error's own k-space, on the samples that may change, `(b, 2, h, w)`."""
    error = to_complex(MODEL(batch.image, batch.context) - batch.target)
    return batch.context["mask"] * to_channels(fft2c(error))


@every_attack
@UNITS
def test_under_l2_the_worst_change_points_along_the_error(attack, unit, eps):
    batch = batch_of()
    ball = Ball("l2", eps, unit=unit, support="mask")
    rho = ball.radius(batch.image, batch.context)
    along = error_in_kspace(batch)
    best = batch.image + rho * along / per_case_norm(along, "l2")
    clean, most = squared_error(batch.image, batch), squared_error(best, batch)
    # The closed form: |e|^2 + 2 rho |M F e| + rho^2.
    closed = clean + 2 * rho.flatten() * per_case_norm(along, "l2").flatten() + rho.flatten() ** 2
    torch.testing.assert_close(most, closed.double(), rtol=1e-5, atol=0)
    gained = squared_error(found_by(attack, batch, ball), batch) - clean
    assert (gained <= (most - clean) * (1 + 1e-4)).all()
    assert (gained >= 0.99 * (most - clean)).all()


@UNITS
def test_from_a_random_start_under_l2_enough_steps_turn_to_the_error(unit, eps):
    batch = batch_of()
    ball = Ball("l2", eps, unit=unit, support="mask")
    along = error_in_kspace(batch)
    rho = ball.radius(batch.image, batch.context).flatten()
    most = 2 * rho * per_case_norm(along, "l2").flatten() + rho**2
    found = found_by(Pgd(steps=200), batch, ball)
    gained = squared_error(found, batch) - squared_error(batch.image, batch)
    assert (gained >= 0.99 * most).all()
    assert (gained <= 1.001 * most).all()


@every_attack
@UNITS
def test_under_linf_every_acquired_channel_goes_to_the_edge_its_error_points_to(attack, unit, eps):
    batch = batch_of()
    ball = Ball("linf", eps, unit=unit, support="mask")
    size = ball.radius(batch.image, batch.context)
    along = error_in_kspace(batch)
    most = (along.abs() + size * batch.context["mask"]).square() - along.square()
    most = most.flatten(start_dim=1).sum(dim=1).double()
    gained = squared_error(found_by(attack, batch, ball), batch) - squared_error(batch.image, batch)
    torch.testing.assert_close(gained, most, rtol=1e-3, atol=0)


@pytest.mark.parametrize("attack", [Pgd(), Pgd(random_start=False)], ids=["random", "clean"])
def test_with_coils_pgd_reaches_the_optimum_of_the_quadratic_problem(attack):
    batch = batch_of(cases=3, coils=2, size=(6, 5))
    ball = Ball("l2", 0.1, unit="fraction", support="mask")
    rho = ball.radius(batch.image, batch.context).flatten().tolist()
    gained = squared_error(found_by(attack, batch, ball), batch) - squared_error(batch.image, batch)
    for case in range(3):
        most = largest_gain(batch[case], rho[case])
        assert 0.99 * most <= gained[case] <= 1.001 * most


def largest_gain(batch, rho):
    """Most that `|A d + e|^2 - |e|^2` can be for `|d| <= rho`, from the multiplier's equation."""
    shape = batch.image.shape
    basis = torch.eye(batch.image[0].numel()).view(-1, *shape[1:])
    context = {k: v.expand(len(basis), *v.shape[1:]) for k, v in batch.context.items()}
    with torch.no_grad():
        columns = MODEL(basis * context["mask"], context).flatten(start_dim=1).T.double().numpy()
        error = (MODEL(batch.image, batch.context) - batch.target).flatten().double().numpy()
    values, vectors = np.linalg.eigh(columns.T @ columns)
    slope = vectors.T @ (columns.T @ error)

    def excess(multiplier):
        return np.linalg.norm(slope / (multiplier - values)) - rho

    top = values[-1]
    multiplier = optimize.brentq(excess, top * (1 + 1e-9), top + 10 * np.linalg.norm(slope) / rho)
    change = slope / (multiplier - values)
    return float(2 * slope @ change + values @ change**2)


@every_attack
def test_on_four_samples_no_choice_of_signs_is_worse(attack):
    batch = batch_of(cases=2, size=(4, 1))
    mask = torch.ones(2, 1, 4, 1)
    batch = Batch(batch.case_ids, batch.image, batch.target, {**batch.context, "mask": mask})
    ball = Ball("linf", 2.0, unit="noise", support="mask")
    size = 2 * batch.context["noise"]
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8).view(256, 2, 4, 1)
    found = squared_error(found_by(attack, batch, ball), batch)
    for case in range(2):
        corners = batch.image[case] + size[case] * signs
        many = Batch(tuple(map(str, range(256))), corners, batch.target[case].expand(256, 2, 4, 1),
                     {"mask": mask[:1].expand(256, 1, 4, 1)})  # fmt: skip
        torch.testing.assert_close(
            found[case], squared_error(corners, many).max(), rtol=1e-4, atol=0
        )


@every_attack
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("coils", [1, 3])
def test_only_acquired_samples_move_and_no_farther_than_stated(attack, norm, coils):
    batch = batch_of(coils=coils)
    outside = (batch.context["mask"] == 0).expand_as(batch.image)
    moved = found_by(attack, batch, Ball(norm, 2.0, unit="noise", support="mask")) - batch.image
    assert (moved[outside] == 0).all()
    assert (moved[~outside] != 0).any()
    limit = 2 * batch.context["noise"]
    assert (per_case_norm(moved, norm).flatten() <= limit * (1 + 1e-4)).all()
    moved = found_by(attack, batch, Ball("l2", 0.03, unit="fraction", support="mask")) - batch.image
    acquired = (batch.image * batch.context["mask"]).flatten(start_dim=1).norm(dim=1)
    torch.testing.assert_close(moved.flatten(start_dim=1).norm(dim=1), 0.03 * acquired)


def test_a_probe_of_such_a_ball_says_so_in_its_name_and_is_enforced():
    ball = Ball("l2", 0.02, unit="fraction", support="mask")
    probe = attacked("far", everywhere, ball, {"error": error})
    assert probe.name == "far[l2<=0.02 of norm on mask]"
    batch = batch_of()
    values = probe.measure(MODEL, batch, CaseRng(0, probe.name, batch.case_ids))
    offset = torch.ones_like(batch.image) * batch.context["mask"]
    rho = 0.02 * per_case_norm(batch.image, "l2")
    legal = batch.image + rho * offset / per_case_norm(offset, "l2")
    torch.testing.assert_close(values["error"].double(), squared_error(legal, batch), rtol=1e-4,
                               atol=0)  # fmt: skip


def everywhere(model, batch, ball, rng):
    return batch.image + 1000.0


def error(output, target):
    return (output - target).square().flatten(start_dim=1).sum(dim=1)


@every_attack
@pytest.mark.parametrize(
    ("missing", "ball"),
    [("mask", Ball("l2", 0.02, unit="fraction", support="mask")),
     ("noise", Ball("linf", 2.0, unit="noise", support="mask"))],
)  # fmt: skip
def test_a_context_entry_that_is_missing_is_named_in_one_line(attack, missing, ball):
    batch = batch_of()
    context = {name: value for name, value in batch.context.items() if name != missing}
    batch = Batch(batch.case_ids, batch.image, batch.target, context)
    with pytest.raises(InputError, match=f"needs {missing!r} in the case's context") as refused:
        attack(MODEL, batch, ball, CaseRng(0, "k", batch.case_ids))
    assert "\n" not in str(refused.value)


def test_where_there_is_no_error_every_direction_is_the_worst():
    batch = batch_of()
    full = Batch(batch.case_ids, to_channels(fft2c(to_complex(batch.target))), batch.target,
                 {**batch.context, "mask": torch.ones(4, 1, *SIZE)})  # fmt: skip
    assert squared_error(full.image, full).max() < 1e-9
    ball = Ball("l2", 0.02, unit="fraction", support="mask")
    gained = squared_error(found_by(Pgd(), full, ball), full)
    rho = ball.radius(full.image, full.context).flatten().double()
    torch.testing.assert_close(gained, rho**2, rtol=1e-3, atol=0)
