"""Correct, Dice and volume error on answers that can be counted by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F

from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.correct import Correct
from robustbench_med.metrics.dice import Dice
from robustbench_med.metrics.volume_error import VolumeError


def logits(mask, classes=3):
    return F.one_hot(mask, classes).movedim(-1, 1).float()


def test_a_classification_is_right_or_wrong():
    output = torch.tensor([[2.0, 1.0], [2.0, 1.0], [-3.0, -1.0]])
    assert Correct()(output, torch.tensor([0, 1, 1])).tolist() == [1, 0, 1]


def test_a_segmentation_scores_its_share_of_correct_voxels():
    target = torch.tensor([[[0, 1], [2, 1]], [[0, 0], [0, 0]]])
    answer = torch.tensor([[[0, 1], [1, 1]], [[0, 1], [1, 1]]])
    assert Correct()(logits(answer), target).tolist() == [0.75, 0.25]


def test_a_multilabel_case_is_right_only_with_every_flag():
    output = torch.tensor([[2.0, -1.0, 0.3], [2.0, -1.0, -0.3]])
    flags = torch.tensor([[1, 0, 1], [1, 0, 1]])
    assert Correct()(output, flags).tolist() == [1, 0]
    assert Correct()(output, flags.float()).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("output", "target"), [((4, 3), (4, 2)), ((4,), (4,)), ((4, 3, 5), (4, 6))]
)
def test_correct_refuses_shapes_of_no_task(output, target):
    with pytest.raises(InputError, match="no classification, segmentation or multilabel task"):
        Correct()(torch.zeros(output), torch.zeros(target))


def test_dice_is_the_f1_score_of_the_voxels_and_counts_what_it_is_made_of():
    stream = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (5, 6, 7, 8), generator=stream)
    answer = torch.randint(0, 3, (5, 6, 7, 8), generator=stream)
    scored = Dice(label=2)(logits(answer), target)
    for case in range(5):
        true, predicted = ((mask[case].flatten() == 2).numpy() for mask in (target, answer))
        assert scored["value"][case].item() == pytest.approx(f1_score(true, predicted))
        assert scored["shared"][case] == np.logical_and(true, predicted).sum()
        assert scored["predicted"][case] == predicted.sum()
        assert scored["true"][case] == true.sum()


def test_dice_is_undefined_where_both_regions_are_empty_and_0_where_one_is():
    empty, full = torch.zeros(2, 2).long(), torch.ones(2, 2).long()
    answer, target = torch.stack([empty, full, empty]), torch.stack([empty, empty, full])
    value = Dice()(logits(answer), target)["value"]
    assert math.isnan(value[0])
    assert value[1:].tolist() == [0.0, 0.0]


def test_volume_error_counts_voxels_with_its_sign():
    target = torch.tensor([[[1, 1], [0, 2]], [[0, 0], [0, 1]]])
    answer = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 1]]])
    assert VolumeError()(logits(answer), target).tolist() == [-1.0, 3.0]
    assert VolumeError(label=2)(logits(answer), target).tolist() == [-1.0, 0.0]


def test_volume_error_in_ml_uses_each_case_s_own_spacing():
    target = torch.zeros(3, 4, 5, 5).long()
    answer = target.clone()
    answer[:, :, :5, :2] = 1
    spacing = torch.tensor([[10.0, 1.0, 2.0], [5.0, 1.0, 1.0], [float("nan"), 1.0, 1.0]])
    metric = VolumeError(unit="ml")
    found = metric(logits(answer), target, context={"spacing": spacing})
    assert metric.unit == "ml"
    assert found[:2].tolist() == pytest.approx([40 * 20 / 1000, 40 * 5 / 1000])
    assert math.isnan(found[2])


def test_errors_of_slices_add_up_to_the_error_of_the_volume():
    stream = torch.Generator().manual_seed(3)
    target = torch.randint(0, 2, (1, 4, 6, 6), generator=stream)
    answer = torch.randint(0, 2, (1, 4, 6, 6), generator=stream)
    whole = VolumeError(unit="ml")(
        logits(answer, 2), target, context={"spacing": torch.tensor([[8.0, 1.5, 1.5]])}
    )
    slices = VolumeError(unit="ml")(
        logits(answer[0], 2), target[0], context={"spacing": torch.tensor([[8.0, 1.5, 1.5]] * 4)}
    )
    assert slices.sum().item() == pytest.approx(whole.item())


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, "context, which has nothing"),
        ({"noise": torch.ones(1)}, "context, which has noise"),
        ({"spacing": torch.ones(1, 2)}, r"needs spacing \(3,\) in mm per case, got \(2,\)"),
    ],
)
def test_a_case_without_a_full_spacing_has_no_volume_in_ml(context, message):
    mask = torch.zeros(1, 2, 2).long()
    with pytest.raises(CaseError, match=message):
        VolumeError(unit="ml")(logits(mask), mask, context=context)


@pytest.mark.parametrize("metric", [Dice, VolumeError])
def test_labels_that_cannot_be_are_refused(metric):
    for label in (-1, True, 1.0, "lv"):
        with pytest.raises(InputError, match="label must be a class index"):
            metric(label=label)
    mask = torch.zeros(1, 2, 2).long()
    with pytest.raises(InputError, match="label 3, but the output has 3 classes"):
        metric(label=3)(logits(mask), mask)
    with pytest.raises(InputError, match="needs a segmentation"):
        metric()(torch.zeros(4, 3), torch.zeros(4))


def test_units_of_volume_are_voxels_or_ml():
    with pytest.raises(InputError, match="voxels or ml, got 'mm3'"):
        VolumeError(unit="mm3")
