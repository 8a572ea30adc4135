"""The checks that need no truth, each broken by one thing only."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from robustbench_med.clinical import quality
from robustbench_med.errors import InputError
from robustbench_med.metrics.plausible import Plausible


def heart(slices=8):
    """Masks `(2, z, 12, 12)` that pass: 4 x 4 pixels of LV in a wall, RV beside it."""
    masks = np.zeros((2, slices, 12, 12), dtype=np.int64)
    masks[:, :, 2:8, 2:8] = 2
    masks[:, :, 3:7, 3:7] = 1
    masks[:, :, 3:7, 9:11] = 3
    return masks


def told(masks, **settings):
    found = quality(masks, **settings)
    return found.sizes, found.run, found.middle


def test_a_heart_passes():
    assert told(heart()) == (True, True, True)
    assert quality(heart()).passed


@pytest.mark.parametrize("label", [1, 2, 3])
@pytest.mark.parametrize("phase", [0, 1])
def test_a_structure_of_fewer_than_ten_pixels_at_either_phase_fails(label, phase):
    masks = heart()
    places = np.argwhere(masks[phase] == label)
    kept = [tuple(place) for place in places if place[0] in (4, 5)][:9]
    masks[phase][masks[phase] == label] = 0
    for place in kept:
        masks[phase][place] = label
    assert not quality(masks).sizes
    masks[phase, 3, 0, 0] = label
    assert quality(masks).sizes


@pytest.mark.parametrize("label", [1, 2])
def test_the_run_is_of_neighbouring_slices_with_cavity_and_wall(label):
    assert quality(heart(6)).run
    assert not quality(heart(5)).run
    assert quality(heart(5), least_slices=5).run
    masks = heart(9)
    masks[1, 4][masks[1, 4] == label] = 0
    assert not quality(masks).run
    longer = heart(11)
    longer[:, 2][longer[:, 2] == label] = 0
    assert quality(longer).run


def test_the_middle_of_the_run_needs_both_ventricles():
    masks = heart(9)
    masks[0, 4][masks[0, 4] == 3] = 0
    assert told(masks) == (True, True, False)
    elsewhere = heart(9)
    elsewhere[0, 8][elsewhere[0, 8] == 3] = 0
    assert quality(elsewhere).passed
    assert told(np.zeros((2, 8, 12, 12), dtype=np.int64)) == (False, False, False)


def test_the_metric_says_the_same_of_predictions_and_ignores_the_truth():
    good, bad = heart(), heart(5)
    bad = np.concatenate([bad, np.zeros((2, 3, 12, 12), dtype=np.int64)], axis=1)
    output = F.one_hot(torch.from_numpy(np.stack([good, bad])), 4).movedim(-1, 1).float()
    truth = torch.zeros(2, 2, 8, 12, 12, dtype=torch.long)
    found = Plausible()(output, truth)
    assert found["value"].tolist() == [1, 0]
    assert found["sizes"].tolist() == [1, 1]
    assert found["run"].tolist() == [1, 0]
    assert Plausible(slices=5)(output, truth)["value"].tolist() == [1, 1]


def test_bad_input_is_one_line():
    with pytest.raises(InputError, match="quality: expected masks"):
        quality(heart()[0])
    with pytest.raises(InputError, match="least_slices"):
        quality(heart(), least_slices=0)
    with pytest.raises(InputError, match="plausible: slices"):
        Plausible(slices=0)
    with pytest.raises(InputError, match="plausible: needs whole patients"):
        Plausible()(torch.zeros(1, 4, 8, 12, 12), torch.zeros(1, 8, 12, 12))
