"""Slices of the whole torso: the truth is the tissue that the simulator put there."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cohorts import torso_cine
from robustbench_med.cohorts.cine_frame import slab
from robustbench_med.cohorts.torso_cine import CLASSES, TORSO_NEEDS_MM, tissue_labels
from robustbench_med.errors import InputError
from robustbench_med.physics.population import Population, draw_patient
from robustbench_med.physics.rendering import TISSUES, Grid, render
from robustbench_med.physics.torso import parts

SMALL = {"patients": 2, "size": 64, "pixel_mm": 7, "slices": 3}


def cohort(**settings):
    return rb.build("cohorts", "synthetic_cine", **(SMALL | settings), task="torso")


def test_a_case_is_a_slice_and_the_tissue_of_each_pixel():
    found = cohort()
    assert (found.task.kind, found.task.classes) == ("segmentation", CLASSES)
    assert found.bounds == (0, 1)
    assert len(found) == 6
    for index, case in enumerate(found.cases):
        assert (case.image.shape, case.image.dtype) == ((1, 64, 64), torch.float32)
        assert (case.target.shape, case.target.dtype) == ((64, 64), torch.int64)
        assert case.target.unique().tolist() == list(range(len(CLASSES)))
        assert case.context["spacing"][1:].tolist() == [7, 7]
        assert case.attributes["phase"] == "ED"
        assert found.summary(index).attributes == case.attributes
        assert found.summary(index).case_id == case.case_id


def test_the_image_is_that_of_the_task_segmentation_on_the_same_grid():
    same = rb.build("cohorts", "synthetic_cine", **SMALL, task="segmentation")
    others = {case.case_id: case for case in same.cases}
    heart = [CLASSES.index(name) for name in ("myocardium", "blood")]
    for case in cohort().cases:
        other = others[case.case_id]
        assert torch.equal(case.image, other.image)
        # The left ventricle of 7 mm pixels is myocardium, its papillary muscles included, or blood.
        left = (other.target == 1) | (other.target == 2)
        inside = torch.isin(case.target, torch.tensor(heart))
        assert inside[left].float().mean() > 0.9


def test_the_largest_share_decides_and_the_rest_is_air():
    shares = torch.zeros(len(TISSUES), 1, 4)
    blood, lung, bone = (TISSUES.index(name) for name in ("blood", "lung", "bone"))
    shares[blood, 0] = torch.tensor([0.4, 0.3, 0.2, 0.0])
    shares[lung, 0] = torch.tensor([0.3, 0.4, 0.1, 0.0])
    shares[bone, 0] = torch.tensor([0.3, 0.3, 0.1, 0.6])
    names = [CLASSES[label] for label in tissue_labels(shares)[0]]
    assert names == ["blood", "lung", "air", "spine"]


@pytest.mark.parametrize("number", range(3))
def test_labels_are_the_majority_of_points_of_a_finer_grid(number):
    """Each pixel's 8 x 8 points, each of the outermost tissue it lies in; the heart left out."""
    patient = draw_patient(Population("normal", "test"), number)
    where, grid, fine = slab(patient, 4), Grid(64, 64, 7.0), Grid(512, 512, 7 / 8)
    shares, _ = render(patient, 0.0, where, grid)
    rows, columns = fine.axes_mm()
    y, x = rows - patient.offset_mm[0], columns - patient.offset_mm[1]
    tissue = torch.zeros(512, 512, dtype=torch.int64)
    for name, depth in parts(patient.torso, where.z_mm, y[:, None], x[None]):
        tissue[depth > 0] = CLASSES.index("spine" if name == "bone" else name)
    votes = torch.nn.functional.one_hot(tissue, len(CLASSES))
    majority = votes.view(64, 8, 64, 8, -1).sum(dim=(1, 3)).argmax(dim=-1)
    away = torch.hypot(*torch.meshgrid(*(axis - offset for axis, offset in zip(
        grid.axes_mm(), patient.offset_mm, strict=True)), indexing="ij")) > 75  # fmt: skip
    same = (tissue_labels(shares) == majority)[away].float().mean()
    assert same > 0.985
    spine = (tissue == CLASSES.index("spine")).sum() * fine.pixel_mm**2
    assert spine == pytest.approx(math.pi * 20**2, rel=0.02)


def test_the_field_of_view_holds_every_torso():
    corners = Grid(63, 63, TORSO_NEEDS_MM / 63)
    for number in range(60):
        patient = draw_patient(Population("acdc", "train"), number)
        rows, columns = corners.axes_mm()
        y, x = rows - patient.offset_mm[0], columns - patient.offset_mm[1]
        body = next(parts(patient.torso, 0.0, y[:, None], x[None])).depth > 0
        rim = torch.cat([body[0], body[-1], body[:, 0], body[:, -1]])
        assert body.any()
        assert not rim.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 62}, "434 mm is smaller than the torso, which needs 440 mm; take size = 64"),
        ({"size": [64, 60]}, "64 x 60 pixels of 7 mm: 420 mm is smaller than the torso"),
        ({"frames": 4}, "frames: the task 'torso' does not use it"),
        ({"coils": 4}, "coils: the task 'torso' does not use it"),
    ],
)
def test_what_does_not_hold_a_torso_is_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as refused:
        cohort(**settings)
    assert len(str(refused.value).splitlines()) == 1


def test_the_digest_covers_settings_and_code_and_no_other_task_changes_with_it():
    plain = cohort()
    known = {plain.summary(1).digest}
    for change in ({"seed": 1}, {"split": "train"}, {"size": 72}, {"pixel_mm": 8}, {"slices": 1}):
        known.add(cohort(**change).summary(0 if "slices" in change else 1).digest)
    assert len(known) == 6
    for change in ({"memory_mb": 1}, {"patients": 9}):
        assert cohort(**change).summary(1) == plain.summary(1)
    plain.cases.view = replace(plain.cases.view, code="changed")
    assert plain.summary(1).digest not in known
    assert not Path(torso_cine.__file__).name.startswith("cine_")


def test_a_case_is_made_when_asked_for_and_the_same_in_any_order():
    ahead, back = cohort(), cohort()
    last = back.cases[5]
    assert torch.equal(last.image, ahead.cases[5].image)
    assert torch.equal(back.cases[0].target, ahead.cases[0].target)
    assert len(back.cases._kept) == 2
