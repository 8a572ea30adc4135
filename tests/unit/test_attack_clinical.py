"""Ejection fractions and diagnoses of whole patients, moved through a whole chain."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.attacks.clinical_measures import DiagnosisChange, SignedMeasure, slacks
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.clinical import Measures, diagnose
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.metrics.measure_error import MeasureError
from robustbench_med.model import TorchModel
from robustbench_med.networks.pipeline import pipeline
from robustbench_med.networks.zero_filled import zero_filled
from robustbench_med.physics.fourier import fft2c, to_channels
from robustbench_med.soft_measures import MEASURES
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("segmentation", ("background", "lv", "myo", "rv"))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def hearts(cases=2, size=24):
    """Rings in two phases and five slices: a cavity, its wall, and a cavity beside."""
    y, x = torch.meshgrid(*[torch.arange(size) - size / 2 + 0.5] * 2, indexing="ij")
    distance, beside = (y**2 + x**2).sqrt(), (y**2 + (x + 8.5) ** 2).sqrt()
    target = torch.zeros(cases, 2, 5, size, size, dtype=torch.long)
    for phase, (cavity, wall) in enumerate(((4.0, 6.0), (2.7, 6.0))):
        frame = target[:, phase]
        frame[..., beside < (4.5 if phase == 0 else 3.0)] = 3
        frame[..., distance < wall] = 2
        frame[..., distance < cavity] = 1
    spacing = torch.tensor([[8.0, 4.0, 4.0]]).expand(cases, 3)
    context = {"spacing": spacing, "bsa": torch.full((cases,), 1.9), "male": torch.ones(cases)}
    return target, context


def one_hot(target, scale):
    return scale * F.one_hot(target, 4).movedim(-1, 1).double()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("sign", [1, -1])
def test_with_probabilities_of_0_and_1_it_is_the_metric_measure_error(measure, sign):
    target, context = hearts()
    seen = target.roll(1, dims=-1).clone()
    seen[:, 0, :2] = 0
    batch = Batch(("a", "b"), torch.zeros(2, 1), target, context)
    found = SignedMeasure(measure, sign)(one_hot(seen, 1e4), batch, TASK)
    metric = MeasureError(measure)(one_hot(seen, 1.0), target, context)["value"]
    torch.testing.assert_close(found, sign * metric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", [SignedMeasure(), DiagnosisChange()], ids=repr)
def test_the_slope_is_that_of_finite_differences_in_every_slice_of_both_phases(objective):
    target, context = hearts()
    batch = Batch(("a", "b"), torch.zeros(2, 1), target, context)
    output = (one_hot(target, 2.0) + torch.randn(2, 4, *target.shape[1:])).requires_grad_()
    value = objective(output, batch, TASK)
    assert value.isfinite().all()
    (slope,) = torch.autograd.grad(value.sum(), output)
    if isinstance(objective, SignedMeasure):
        assert (slope.abs().amax(dim=(1, 4, 5)) > 0).all()
    with torch.no_grad():
        way = torch.randn_like(output)
        up, down = (objective(output + h * way, batch, TASK) for h in (1e-5, -1e-5))
    along = (slope * way).flatten(start_dim=1).sum(dim=1)
    torch.testing.assert_close((up - down) / 2e-5, along, rtol=1e-4, atol=1e-8)


def whole_chain():
    """k-space of five slices in two phases to labels, and logits that follow the intensity."""
    target, context = hearts()
    intensity = torch.tensor([0.05, 0.95, 0.35, 0.65])
    image = intensity[target].to(torch.complex64)
    mask = torch.ones(2, 1, *target.shape[1:])
    mask[..., 1::4, :] = 0
    kspace = to_channels(mask * fft2c(image)[:, None])
    segment = nn.Conv2d(1, 4, 1)
    with torch.no_grad():  # the nearest intensity's class
        segment.weight[:, 0, 0, 0] = 40 * intensity
        segment.bias[:] = -20 * intensity.square()
    network = pipeline(reconstruction=zero_filled(), segmentation=segment)
    return TorchModel(network, TASK, (-1e9, 1e9)), Batch(
        ("a", "b"), kspace, target, {**context, "mask": mask}
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_through_the_whole_chain_an_ejection_fraction_goes_up_or_down(sign):
    model, batch = whole_chain()
    ball = Ball("l2", 0.05, unit="fraction", support="mask")
    goal = SignedMeasure("lvef", sign)
    attack = Pgd(steps=60, step_size=0.2, random_start=False, objective=goal)
    found = attack(model, batch, ball, CaseRng(0, "x", batch.case_ids))
    found = ball.project(found, batch.image, batch.context)
    with torch.no_grad():
        clean, answer = (model(image, batch.context) for image in (batch.image, found))
        assert (goal(answer, batch, TASK) > goal(clean, batch, TASK) + 3).all()
        before, after = (
            MeasureError("lvef")(output, batch.target, batch.context)["predicted"]
            for output in (clean, answer)
        )
    assert (sign * (after - before) > 1).all(), (before, after)  # of labels, not probabilities
    moved = (found - batch.image).abs().amax(dim=(1, 4, 5))  # of each phase and slice
    assert (moved > 0).all()


def test_a_change_of_diagnosis_is_found_and_its_sign_says_so():
    target, context = hearts()
    batch = Batch(("a", "b"), torch.zeros(2, 1), target, context)
    unchanged = DiagnosisChange()(one_hot(target, 1e4), batch, TASK)
    assert (unchanged < 0).all()
    stopped = target.clone()
    stopped[:, 1] = target[:, 0]  # nothing is ejected any more
    assert (DiagnosisChange()(one_hot(stopped, 1e4), batch, TASK) > 0).all()
    nobody = Batch(("a", "b"), torch.zeros(2, 1), torch.zeros_like(target), context)
    assert DiagnosisChange()(one_hot(target, 1e4), nobody, TASK).isnan().all()


WALLS = {
    "NOR": (8.0, 0.0, 0.02), "MINF": (8.0, 0.0, 0.3), "DCM": (8.0, 0.0, 0.02),
    "HCM": (18.0, 4.0, 0.02), "RV": (8.0, 0.0, 0.02),
}  # fmt: skip


@pytest.mark.parametrize("name", WALLS)
@pytest.mark.parametrize("male", [True, False])
def test_a_rule_has_something_to_spare_exactly_where_it_is_met(name, male):
    draws = torch.rand(300, 4).double()
    lvef, rvef = 20 + 60 * draws[:, 0], 20 + 60 * draws[:, 1]
    if name == "RV":
        lvef = 45 + 0 * lvef  # no rule before it is met
    lvedv, rvedv = 100 + 200 * draws[:, 2], 100 + 200 * draws[:, 3]
    soft = {"lvef": lvef, "rvef": rvef, "lvedv": lvedv, "rvedv": rvedv}
    size = torch.full((300,), 1.8).double()
    spare = slacks(soft, size, torch.full((300,), male))[name]
    wall, thick, motion = WALLS[name]
    for i in range(300):
        measures = Measures(
            lvedv=float(lvedv[i]), lvesv=0, lvsv=0, lvef=float(lvef[i]), lvm=0,
            rvedv=float(rvedv[i]), rvesv=0, rvsv=0, rvef=float(rvef[i]), wall_mm=wall,
            thick_segments=thick, motion_range=motion,
        )  # fmt: skip
        met = diagnose(measures, bsa=1.8, male=male) == name
        assert met == bool(spare[i] > 0)
    assert 0 < (spare > 0).sum() < 300


def test_what_does_not_fit_is_told():
    target, context = hearts()
    batch = Batch(("a", "b"), torch.zeros(2, 1), target, context)
    with pytest.raises(InputError, match="did you mean 'lvef'"):
        SignedMeasure("lvf")
    with pytest.raises(InputError, match="sign must be 1"):
        SignedMeasure(sign=0)
    flat = Batch(("a", "b"), torch.zeros(2, 1), target[:, 0, 0], context)
    with pytest.raises(InputError, match="needs whole patients"):
        SignedMeasure()(one_hot(target[:, 0, 0], 1.0), flat, TASK)
    lacking = Batch(("a", "b"), torch.zeros(2, 1), target, {"spacing": context["spacing"]})
    with pytest.raises(InputError, match="needs 'bsa'"):
        DiagnosisChange()(one_hot(target, 1.0), lacking, TASK)
    with pytest.raises(UnsupportedError, match="got reconstruction"):
        SignedMeasure()(one_hot(target, 1.0), batch, Task("reconstruction"))
