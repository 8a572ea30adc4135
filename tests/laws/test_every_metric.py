"""What every metric must keep: the suite runs on all declared metrics."""

import inspect
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med import components

NAMES = components.names("metrics")
CONTEXT = {
    "spacing": torch.tensor([[10.0, 2.0, 2.0]] * 6),
    "bsa": torch.full((6,), 1.9),
    "male": torch.ones(6),
}


class Sample(NamedTuple):
    """Six cases: an imperfect output, the output that is right, and the target."""

    output: Tensor
    perfect: Tensor
    target: Tensor


def segmentation():
    stream = torch.Generator().manual_seed(1)
    target = torch.randint(0, 3, (6, 8, 10), generator=stream)
    perfect = F.one_hot(target, 3).movedim(-1, 1).float()
    return Sample(perfect + torch.randn(perfect.shape, generator=stream), perfect, target)


def images():
    stream = torch.Generator().manual_seed(2)
    target = torch.rand(6, 2, 8, 10, generator=stream)
    return Sample(target + 0.1 * torch.randn(target.shape, generator=stream), target, target)


def patients():
    """Round hearts that pump, and outputs in which half of them hardly do."""
    stream = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(48) - 22.3, torch.arange(48) - 27.6, indexing="ij")
    cavity = torch.stack([9.0 + torch.rand(6, generator=stream), torch.full((6,), 4.0)], dim=1)
    sick = torch.where(torch.arange(6) % 2 > 0, 2.5, 0.0)[:, None] * torch.tensor([0, 1])

    def drawn(cavity):
        edge = cavity[:, :, None, None, None]
        radius, right = torch.hypot(y, x).expand(6, 2, 9, 48, 48), (x < -17) & (y.abs() < edge)
        return torch.where(radius < edge, 1, torch.where(radius < edge + 5, 2, 3 * right))

    target = drawn(cavity)
    perfect, wrong = (
        F.one_hot(m, 4).movedim(-1, 1).float() for m in (target, drawn(cavity + sick))
    )
    return Sample(wrong + 0.1 * torch.randn(wrong.shape, generator=stream), perfect, target)


def hollow():
    """The same hearts, and outputs in which half of them have no right ventricle."""
    output, perfect, target = patients()
    output[::2, 3] = -9.0
    return Sample(output, perfect, target)


def spots():
    """Four lesions a case, of which the output misses one and overstates another, and a false one.

    Cases differ in how much is overstated.
    """
    target = torch.zeros(6, 24, 30, dtype=torch.long)
    for y, x in ((2, 3), (2, 15), (12, 4), (15, 20)):
        target[:, y : y + 4, x : x + 5] = 1
    found = target.clone()
    found[:, 2:6, 3:8] = 0
    found[:, 20:22, 2:4] = 1
    for case in range(6):
        found[case, 15 : 20 + case // 2, 18:26] = 1
    wrong, perfect = (F.one_hot(mask, 2).movedim(-1, 1).float() for mask in (found, target))
    return Sample(wrong, perfect, target)


def classes():
    """Outputs that lean towards the true class, and some that do not."""
    stream = torch.Generator().manual_seed(4)
    target = torch.tensor([0, 1, 2, 1, 0, 1])
    truth = F.one_hot(target, 3).float()
    return Sample(truth + torch.randn(6, 3, generator=stream), 9 * truth, target)


OF_IMAGES = dict.fromkeys(("nmse", "nmse_complex", "psnr", "psnr_complex", "ssim"), images)
OF_PATIENTS = dict.fromkeys(
    ("measure_error", "diagnosis", "reclassified", "reference_zone"), patients
)
OF_SPOTS = dict.fromkeys(("hausdorff", "surface_distance", "surface_dice", "lesions"), spots)
SAMPLE_OF = {**OF_IMAGES, **OF_PATIENTS, **OF_SPOTS, "detection": classes, "plausible": hollow}
SAMPLES = [(name, SAMPLE_OF.get(name, segmentation)) for name in NAMES]
SETTINGS = {
    "surface_dice": {"tolerance_mm": 2.0},
    "reference_zone": {"measure": "lvesv", "indexed": False},
}
every_metric = pytest.mark.parametrize(("name", "sample"), SAMPLES, ids=NAMES)
every_metric_of_images = pytest.mark.parametrize(
    ("name", "sample"), [pair for pair in SAMPLES if pair[1] is not classes]
)


def build(name):
    return components.build("metrics", name, **SETTINGS.get(name, {}))


def score(name, output, target):
    """Every entry of the metric by name, "value" for its own."""
    metric = build(name)
    extra = {}
    if "context" in inspect.signature(metric).parameters:
        extra["context"] = CONTEXT
    scored = metric(output, target, **extra)
    return {"value": scored} if isinstance(scored, Tensor) else dict(scored)


@every_metric
def test_a_metric_says_what_its_numbers_mean(name, sample):
    metric = build(name)
    assert metric.better in ("higher", "lower", "zero")
    assert metric.patient in ("mean", "sum", "dice")
    assert isinstance(metric.unit, str)
    values = score(name, sample().output, sample().target)
    assert all(value.shape == (6,) for value in values.values())
    assert values["value"].isfinite().all()
    if metric.patient == "dice":
        assert set(values) >= {"shared", "predicted", "true"}


@every_metric
def test_a_case_scores_the_same_wherever_it_stands_in_the_batch(name, sample):
    output, _, target = sample()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    straight = score(name, output, target)
    shuffled = score(name, output[order], target[order])
    for key, value in straight.items():
        torch.testing.assert_close(shuffled[key], value[order], atol=1e-9, rtol=1e-6)


@every_metric
def test_a_metric_keeps_within_the_limits_that_it_states(name, sample):
    low, high = getattr(build(name), "limits", (-math.inf, math.inf))
    output, perfect, target = sample()
    for answer in (output, perfect, -perfect):
        value = score(name, answer, target)["value"]
        assert (low - 1e-12 <= value).all()
        assert (value <= high + 1e-12).all()


@every_metric_of_images
def test_mirroring_output_and_target_alike_changes_nothing(name, sample):
    output, _, target = sample()
    straight = score(name, output, target)
    for axis in (-1, -2):
        mirrored = score(name, output.flip(axis), target.flip(axis))
        for key, value in straight.items():
            torch.testing.assert_close(mirrored[key], value, atol=1e-9, rtol=1e-6)


@every_metric
def test_nothing_scores_better_than_the_right_answer(name, sample):
    output, perfect, target = sample()
    better = build(name).better
    right, wrong = score(name, perfect, target)["value"], score(name, output, target)["value"]
    cost = {"higher": lambda v: -v, "lower": lambda v: v, "zero": lambda v: v.abs()}[better]
    assert (cost(right) <= cost(wrong)).all()
    assert (cost(right) < cost(wrong)).any()


@every_metric
def test_a_metric_leaves_its_inputs_alone(name, sample):
    output, _, target = sample()
    kept = output.clone(), target.clone()
    score(name, output, target)
    assert torch.equal(output, kept[0])
    assert torch.equal(target, kept[1])
