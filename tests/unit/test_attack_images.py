"""Objectives of images by their formulas, and the very worst of linear reconstructions."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from robustbench_med.attacks.features import InventedFeature, LostFeature
from robustbench_med.attacks.image_errors import Dssim, LocalLinf, Nmse, Region
from robustbench_med.attacks.power import Power
from robustbench_med.cases import Batch, Task
from robustbench_med.engine.amplification import amplified
from robustbench_med.engine.moving_reference import moving
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.metrics import nmse, ssim
from robustbench_med.model import TorchModel
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

TASK = Task("reconstruction")
FREE = (-float("inf"), float("inf"))
EVERY = [
    Nmse(), Dssim(), Dssim(2.0), LocalLinf(), LocalLinf(1), Region(), LostFeature(),
    InventedFeature(),
]  # fmt: skip
every_objective = pytest.mark.parametrize("objective", EVERY, ids=repr)
SHAPES = pytest.mark.parametrize("shape", [(1, 9, 8), (2, 9, 8), (2, 3, 8, 9), (1, 3, 8, 9)])


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pair_of(shape):
    """A batch with a region and a feature, and answers to it."""
    target = torch.rand(2, *shape).double() + 0.1
    one = (2, 1, *shape[1:])
    context = {"region": torch.zeros(one), "feature_mask": torch.zeros(one),
               "feature": torch.rand(one).double()}  # fmt: skip
    context["region"][..., 2:5, 3:6] = 1
    context["feature_mask"][..., 1:6, 1:7] = 1
    batch = Batch(("a", "b"), torch.zeros(2, *shape), target, context)
    return batch, target + 0.3 * torch.randn_like(target)


@SHAPES
@every_objective
def test_the_slope_is_that_of_finite_differences(objective, shape):
    batch, output = pair_of(shape)
    output.requires_grad_()
    value = objective(output, batch, TASK)
    assert value.shape == (2,)
    (slope,) = torch.autograd.grad(value.sum(), output)
    with torch.no_grad():
        for _ in range(3):
            way = torch.randn_like(output)
            up, down = (objective(output + h * way, batch, TASK) for h in (1e-6, -1e-6))
            along = (slope * way).flatten(start_dim=1).sum(dim=1)
            torch.testing.assert_close((up - down) / 2e-6, along, rtol=1e-4, atol=1e-6)


@SHAPES
def test_nmse_and_dssim_are_the_metrics_of_these_names(shape):
    batch, output = pair_of(shape)
    torch.testing.assert_close(
        Nmse()(output, batch, TASK), nmse.Nmse()(output, batch.target), rtol=1e-9, atol=0
    )
    for width in (None, 2.0):
        expected = 1 - ssim.Ssim(width)(output, batch.target)
        torch.testing.assert_close(Dssim(width)(output, batch, TASK), expected, rtol=1e-9, atol=0)


@every_objective
def test_a_complex_image_of_zeros_has_a_slope(objective):
    batch, output = pair_of((2, 9, 8))
    output = torch.zeros_like(output).requires_grad_()
    (slope,) = torch.autograd.grad(objective(output, batch, TASK).sum(), output)
    assert slope.isfinite().all()


@every_objective
def test_another_task_is_refused_in_one_line(objective):
    batch = Batch(("a",), torch.rand(1, 1, 4), torch.tensor([0]))
    with pytest.raises(UnsupportedError, match="got classification; use task") as refused:
        objective(torch.rand(1, 2), batch, Task("classification", ("b", "c")))
    assert "\n" not in str(refused.value)


def test_the_largest_local_artefact_is_found_by_looking_at_every_window():
    batch, output = pair_of((2, 9, 8))
    error = (output.norm(dim=1) - batch.target.norm(dim=1)).abs()
    windows = [error[:, y : y + 3, x : x + 3].mean(dim=(1, 2)) for y in range(7) for x in range(6)]
    most = torch.stack(windows).amax(dim=0)
    torch.testing.assert_close(LocalLinf(3)(output, batch, TASK), most)
    torch.testing.assert_close(LocalLinf(1)(output, batch, TASK), error.amax(dim=(1, 2)))


def test_a_region_counts_its_own_voxels_alone():
    batch, output = pair_of((1, 9, 8))
    inside = (output - batch.target)[:, 0, 2:5, 3:6].square().mean(dim=(1, 2))
    torch.testing.assert_close(Region()(output, batch, TASK), inside)


def test_a_feature_is_lost_by_the_share_that_a_fit_misses():
    batch, _ = pair_of((1, 9, 8))
    feature, inside = batch.context["feature"], batch.context["feature_mask"]
    for share in (0.0, 0.4, 1.0, 1.5):
        answer = batch.target - share * feature + 3.0 * inside  # brighter as a whole
        found = LostFeature()(answer, batch, TASK)
        torch.testing.assert_close(found, torch.full((2,), share).double())
        torch.testing.assert_close(InventedFeature()(answer, batch, TASK), -found)


def test_a_feature_that_is_missing_or_flat_and_settings_that_do_not_fit_are_told():
    batch, output = pair_of((1, 9, 8))
    with pytest.raises(InputError, match="needs 'lesion' in the case's context"):
        LostFeature("lesion")(output, batch, TASK)
    batch.context["feature"][1] = 1
    with pytest.raises(InputError, match="case 'b' is flat inside 'feature_mask'"):
        InventedFeature()(output, batch, TASK)
    with pytest.raises(InputError, match="local_linf: window"):
        LocalLinf(0)
    with pytest.raises(InputError, match="dssim: data_range"):
        Dssim(-1.0)
    with pytest.raises(InputError, match="at least 7 by 7"):
        Dssim()(output[..., :5], Batch(("a", "b"), output, batch.target[..., :5]), TASK)


class ZeroFilled(nn.Module):
    """The adjoint of the measurement, with or without coils."""

    def forward(self, image, context):
        maps = to_complex(context["maps"]) if "maps" in context else None
        return to_channels(adjoint(to_complex(image), maps, context["mask"])[:, None])


MODEL = TorchModel(ZeroFilled(), TASK, FREE)


def measured_batch(coils, size=(6, 5), cases=3):
    height, width = size
    truth = torch.complex(*torch.rand(2, cases, height, width).double())
    mask = torch.zeros(cases, 1, height, width).double()
    mask[:, :, ::2] = 1
    context = {"mask": mask}
    seen = truth[:, None]
    if coils > 1:
        maps = torch.complex(*torch.randn(2, cases, coils, height, width).double())
        context["maps"] = to_channels(maps)
        seen = maps * seen
    kspace = to_channels(mask * fft2c(seen))
    kspace = kspace + 0.02 * mask * torch.randn_like(kspace)
    return Batch(tuple("abc")[:cases], kspace, to_channels(truth[:, None]), context)


def columns_of(batch):
    """Matrix of one case's reconstruction, from acquired samples' real channels to the image's."""
    shape = batch.image.shape
    basis = torch.eye(batch.image[0].numel()).double().view(-1, *shape[1:])
    context = {k: v.expand(len(basis), *v.shape[1:]) for k, v in batch.context.items()}
    return MODEL(basis * context["mask"], context).flatten(start_dim=1).T.numpy()


def largest_error(batch, rho):
    """Most that `|A d + e|^2` can be for `|d| <= rho`, from the multiplier's equation."""
    matrix = columns_of(batch)
    error = (MODEL(batch.image, batch.context) - batch.target).flatten().numpy()
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    slope = vectors.T @ (matrix.T @ error)

    def excess(multiplier):
        return np.linalg.norm(slope / (multiplier - values)) - rho

    top = values[-1]
    multiplier = optimize.brentq(excess, top * (1 + 1e-12), top + 10 * np.linalg.norm(slope) / rho)
    change = slope / (multiplier - values)
    return float(error @ error + 2 * slope @ change + values @ change**2)


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize("eps", [0.02, 0.3])
def test_power_reaches_the_worst_error_of_a_linear_reconstruction(coils, eps):
    batch = measured_batch(coils)
    ball = Ball("l2", eps, unit="fraction", support="mask")
    rho = ball.radius(batch.image, batch.context).flatten().tolist()
    found = Power(steps=200, random_starts=0)(MODEL, batch, ball, CaseRng(0, "x", batch.case_ids))
    found = ball.project(found, batch.image, batch.context)
    reached = (MODEL(found, batch.context) - batch.target).square().flatten(start_dim=1).sum(dim=1)
    most = [largest_error(batch[i], rho[i]) for i in range(3)]
    torch.testing.assert_close(reached, torch.tensor(most).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("coils", [1, 2])
def test_amplification_of_a_linear_reconstruction_is_its_largest_singular_value(coils):
    batch = measured_batch(coils)
    ball = Ball("l2", 0.05, unit="fraction", support="mask")
    probe = amplified("power", Power(steps=300), ball, draws=400)
    assert probe.name == "amplified power[l2<=0.05 of norm on mask]"
    values = probe.measure(MODEL, batch, CaseRng(0, probe.name, batch.case_ids))
    rho = ball.radius(batch.image, batch.context).flatten()
    for case in range(3):
        matrix = columns_of(batch[case])
        singular = np.linalg.svd(matrix, compute_uv=False)
        acquired = int(batch.context["mask"][case].sum()) * batch.image.shape[1]
        typical = np.sqrt((singular**2).sum() / acquired)
        worst = float(values["amplification.worst"][case])
        assert worst == pytest.approx(float(rho[case]) * singular[0], rel=1e-4)
        assert float(values["amplification.gain"][case]) == pytest.approx(singular[0], rel=1e-4)
        ratio = float(values["amplification"][case])
        assert ratio == pytest.approx(singular[0] / typical, rel=0.03)


def test_amplification_says_what_it_cannot_do():
    with pytest.raises(InputError, match="draws must be"):
        amplified("x", Power(), Ball("l2", 1.0), draws=0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model = TorchModel(network, Task("classification", ("a", "b")), (0, 1))
    batch = Batch(("a",), torch.rand(1, 1, 2, 2), torch.tensor([0]))
    probe = amplified("x", Power(), Ball("l2", 1.0))
    with pytest.raises(UnsupportedError, match="got classification"):
        probe.measure(model, batch, CaseRng(0, "x", batch.case_ids))


def squared(output, target):
    return (output - target).square().flatten(start_dim=1).sum(dim=1)


def test_where_the_reference_moves_the_worst_lies_in_what_was_not_sampled():
    batch = measured_batch(1)
    ball = Ball("l2", 0.3)
    probe = moving("power", Power(steps=100), ball, {"error": squared})
    values = probe.measure(MODEL, batch, CaseRng(0, probe.name, batch.case_ids))
    error = to_complex(MODEL(batch.image, batch.context) - batch.target)
    sampled = batch.context["mask"] * fft2c(error)
    unseen = per_case_norm(to_channels(error - ifft2c(sampled)), "l2").flatten()
    seen = per_case_norm(to_channels(sampled), "l2").flatten()
    # f(A(x + r) + n) - (x + r) loses of r what is not sampled: the error there grows by 0.3.
    torch.testing.assert_close(values["error"], (unseen + 0.3).square() + seen.square())
    # With the reference at rest it is what is sampled that counts.
    still = Power(steps=100)(
        MODEL, batch, Ball("l2", 0.3, support="mask"), CaseRng(0, "x", batch.case_ids)
    )
    torch.testing.assert_close(
        squared(MODEL(still, batch.context), batch.target),
        (seen + 0.3).square() + unseen.square(),
    )


def test_a_moving_reference_needs_single_complex_images_and_a_mask():
    batch = measured_batch(1)
    probe = moving("power", Power(), Ball("l2", 0.3), {"error": squared})
    for wrong in (
        Batch(batch.case_ids, batch.image, batch.target, {}),
        Batch(batch.case_ids, batch.image, batch.target[:, :1], batch.context),
    ):
        with pytest.raises(InputError, match="needs k-space of single images"):
            probe.measure(MODEL, wrong, CaseRng(0, "x", batch.case_ids))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_output_one_step_of_power_is_the_dual_norm(norm):
    weight = torch.randn(9).double()
    network = nn.Linear(9, 1, bias=False).double()
    network.weight.data[:] = weight
    model = TorchModel(nn.Sequential(nn.Flatten(), network), Task("regression", ("x",)), FREE)
    image = torch.rand(2, 1, 3, 3).double()
    batch = Batch(("a", "b"), image, torch.zeros(2, 1).double())

    def output(answer, batch, task):
        return answer[:, 0]

    found = Power(steps=1, objective=output)(
        model, batch, Ball(norm, 0.2), CaseRng(0, "x", batch.case_ids)
    )
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[norm]
    risen = (model(found) - model(image)).flatten()
    torch.testing.assert_close(risen, (0.2 * dual).expand(2))


def test_settings_of_power_that_do_not_fit_are_told():
    for settings in ({"steps": 0}, {"random_starts": -1}, {"steps": True}):
        with pytest.raises(InputError, match="power: "):
            Power(**settings)
