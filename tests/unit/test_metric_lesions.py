"""Lesions found, missed and made up, on masks where they can be counted by hand."""

import math

import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.metrics.lesions import Lesions


def drawn(text):
    """A mask `(y, x)` from rows of `#` and `.`."""
    return torch.tensor([[mark == "#" for mark in row] for row in text.split()]).long()


def score(predicted, true, **settings):
    """Value, found, true and false of one case."""
    output = F.one_hot(predicted[None], 2).movedim(-1, 1).float()
    found = Lesions(**settings)(output, true[None])
    return tuple(found[key].item() for key in ("value", "found", "true", "false"))


TRUE = drawn("""
    ##....##..
    ##....##..
    ..........
    .....##...
    .....##...
""")
PREDICTED = drawn("""
    ##........
    ##........
    ........#.
    ......##..
    #.....##..
""")


def test_lesions_are_counted_as_found_missed_and_made_up():
    # Found: the first and the third. False: the voxel at the lower left. The voxel in the third
    # row belongs to the component that covers half of the third lesion.
    assert score(PREDICTED, TRUE) == (2 / 3, 2, 3, 1)


def test_the_overlap_that_counts_is_a_share_of_the_true_lesion():
    assert score(PREDICTED, TRUE, overlap=0.5)[1] == 2
    assert score(PREDICTED, TRUE, overlap=0.51)[1] == 1
    assert score(PREDICTED, TRUE, overlap=1)[1] == 1


def test_a_share_that_is_just_met_is_met_whatever_the_rounding():
    true = torch.ones(10, 10).long()
    for hundredths in (1, 7, 10, 14, 28, 29, 55, 57, 58, 100):  # 0.07 * 100 is above 7
        predicted = (torch.arange(100) < hundredths).long().view(10, 10)
        assert score(predicted, true, overlap=hundredths / 100)[1] == 1
        predicted[0, 0] = 0
        assert score(predicted, true, overlap=hundredths / 100)[1] == 0


def test_a_prediction_that_grazes_a_lesion_finds_nothing_and_is_not_false():
    true = torch.ones(5, 5).long()
    grazing = torch.zeros(5, 5).long()
    grazing[0, 0] = 1
    assert score(grazing, true, overlap=0.1) == (0, 0, 1, 0)


def test_several_predictions_find_a_lesion_together_and_one_prediction_finds_several():
    true = drawn("##########")
    assert score(drawn("#.#.#....."), true, overlap=0.3) == (1, 1, 1, 0)
    assert score(true, drawn("###.###.##")) == (1, 3, 3, 0)


def test_corners_connect():
    assert score(drawn("#. .#"), drawn("#. .#")) == (1, 1, 1, 0)
    cube = torch.zeros(2, 2, 2).long()
    cube[0, 0, 0] = cube[1, 1, 1] = 1
    assert score(cube, cube)[2] == 1


def test_without_a_true_lesion_there_is_no_share_and_false_ones_still_count():
    value, found, true, false = score(PREDICTED, torch.zeros_like(TRUE))
    assert math.isnan(value)
    assert (found, true, false) == (0, 0, 3)
    value, *counts = score(torch.zeros_like(TRUE), torch.zeros_like(TRUE))
    assert math.isnan(value)
    assert counts == [0, 0, 0]
    assert score(torch.zeros_like(TRUE), TRUE) == (0, 0, 3, 0)


def test_small_components_are_no_lesions_on_either_side():
    true = drawn("#...####.....")
    predicted = drawn("#...#.....##.")
    assert score(predicted, true) == (1, 2, 2, 1)
    # The single true voxel need not be found, and the single predicted ones find nothing.
    assert score(predicted, true, least_voxels=2) == (0, 0, 1, 1)
    assert score(predicted, true, least_voxels=3) == (0, 0, 1, 0)
    # A large prediction on a small true component is not false.
    assert score(drawn("###.."), drawn("#...."), least_voxels=2)[1:] == (0, 0, 0)


def test_counts_agree_with_components_taken_one_by_one():
    stream = torch.Generator().manual_seed(8)
    full = torch.ones(3, 3, 3).numpy()
    for _ in range(10):
        true, predicted = (torch.rand(2, 7, 20, 20, generator=stream) < 0.04).long()
        a, n = ndimage.label(true.numpy(), structure=full)
        b, m = ndimage.label(predicted.numpy(), structure=full)
        share = [(b[a == i] > 0).mean() for i in range(1, n + 1)]
        alone = [not (a[b == i] > 0).any() for i in range(1, m + 1)]
        found = sum(s >= 0.4 for s in share)
        assert score(predicted, true, overlap=0.4) == (found / n, found, n, sum(alone))


def test_the_rate_of_a_cohort_comes_from_the_sums():
    masks = torch.stack([TRUE, TRUE.roll(1, 0), torch.zeros_like(TRUE)])
    answers = torch.stack([PREDICTED, masks[1], PREDICTED])
    found = Lesions()(F.one_hot(answers, 2).movedim(-1, 1).float(), masks)
    assert found["found"].sum() / found["true"].sum() == 5 / 6
    assert found["false"].mean() == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": -1}, "lesions: label must be"),
        ({"overlap": 0}, "overlap must be above 0 and at most 1, got 0"),
        ({"overlap": 1.1}, "at most 1, got 1.1"),
        ({"overlap": math.nan}, "at most 1, got nan"),
        ({"overlap": True}, "at most 1, got True"),
        ({"least_voxels": 0}, "least_voxels must be a whole number of at least 1, got 0"),
        ({"least_voxels": 1.5}, "least_voxels must be a whole number"),
        ({"least_voxels": True}, "least_voxels must be a whole number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Lesions(**settings)


def test_whole_patients_with_phases_are_refused():
    with pytest.raises(InputError, match="lesions: needs images of two or three axes"):
        Lesions()(torch.zeros(1, 4, 2, 3, 5, 5), torch.zeros(1, 2, 3, 5, 5))
