"""Distances of surfaces, on bodies whose distances are known and against all pairs of voxels."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional as F

from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.dice import Dice
from robustbench_med.metrics.hausdorff import Hausdorff
from robustbench_med.metrics.surface_dice import SurfaceDice
from robustbench_med.metrics.surface_distance import SurfaceDistance

ALL = [Hausdorff(), Hausdorff(percentile=100), SurfaceDistance(), SurfaceDice(2.0)]


def logits(masks, classes=2):
    return F.one_hot(masks.long(), classes).movedim(-1, 1).float()


def score(metric, predicted, true, spacing=(1.0, 1.0, 1.0)):
    """Value and `penalised` of one case."""
    context = {"spacing": torch.tensor([spacing], dtype=torch.float64)}
    found = metric(logits(predicted[None]), true[None].long(), context)
    return found["value"].item(), found["penalised"].item()


def box(shape, *corners):
    mask = torch.zeros(shape)
    mask[tuple(itertools.starmap(slice, corners))] = 1
    return mask


def surface_voxels(mask):
    """Voxels with a face neighbour outside, by going to each neighbour in turn."""
    padded = np.pad(mask.numpy() > 0, 1)
    inside = padded.copy()
    for axis in range(padded.ndim):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inside) - 1


def all_pairs(predicted, true, spacing):
    """Distances of each surface's voxels to the other, both ways."""
    extent = np.asarray(spacing)[-predicted.ndim :]
    pairs = cdist(surface_voxels(predicted) * extent, surface_voxels(true) * extent)
    return pairs.min(axis=1), pairs.min(axis=0)


@pytest.mark.parametrize("shape", [(14, 17), (6, 9, 8)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (8.0, 1.25, 0.7)])
def test_distances_are_those_of_all_pairs_of_surface_voxels(shape, spacing):
    stream = torch.Generator().manual_seed(5)
    for density in (0.05, 0.5, 0.9, 1.0):
        predicted = (torch.rand(shape, generator=stream) < density).float()
        true = (torch.rand(shape, generator=stream) < 0.4).float()
        there, back = all_pairs(predicted, true, spacing)
        both = np.concatenate([there, back])
        for q in (50, 95, 100):
            expected = max(np.percentile(there, q), np.percentile(back, q))
            found, _ = score(Hausdorff(percentile=q), predicted, true, spacing)
            assert found == pytest.approx(expected, abs=1e-10)
        found, penalised = score(SurfaceDistance(), predicted, true, spacing)
        assert (found, penalised) == (pytest.approx(both.mean(), abs=1e-10), 0)
        found, _ = score(SurfaceDice(1.0), predicted, true, spacing)
        assert found == pytest.approx((both <= 1.0).mean(), abs=1e-10)


def test_a_shifted_box_is_as_far_off_as_it_was_shifted_in_mm_along_its_axis():
    true = box((10, 30, 30), (2, 8), (5, 20), (5, 20))
    for axis, millimetres in ((0, 8.0), (1, 1.5), (2, 0.5)):
        moved = true.roll(2, dims=axis)
        found, _ = score(Hausdorff(percentile=100), moved, true, (8.0, 1.5, 0.5))
        assert found == pytest.approx(2 * millimetres)


def test_a_percentile_forgives_a_lone_voxel_and_the_largest_distance_does_not():
    true = box((60, 60), (10, 50), (10, 50))
    stray = true.clone()
    stray[30, 58] = 1
    assert score(Hausdorff(percentile=100), stray, true)[0] == 9
    assert score(Hausdorff(), stray, true)[0] == 0
    # Both ways count: half of the body is missing, and what is there lies on the surface.
    half = box((60, 60), (10, 50), (10, 11))
    assert score(Hausdorff(), half, true)[0] > 30


def test_a_slice_takes_the_last_two_extents():
    true, moved = box((20, 20), (4, 9), (4, 9)), box((20, 20), (7, 12), (4, 9))
    assert score(Hausdorff(percentile=100), moved, true, (99.0, 2.0, 0.1))[0] == pytest.approx(6)


def test_voxels_are_the_unit_only_where_they_are_asked_for():
    true, moved = box((20, 20), (4, 9), (4, 9)), box((20, 20), (7, 12), (4, 9))
    pair = logits(moved[None]), true[None].long()
    for kind in (Hausdorff, SurfaceDistance):
        assert kind().unit == "mm"
        with pytest.raises(CaseError, match="'spacing' in the case's context, which has nothing"):
            kind()(*pair)
    with pytest.raises(CaseError, match="'spacing' in the case's context"):
        SurfaceDice(1.0)(*pair)
    found = Hausdorff(percentile=100, unit="voxels")(*pair)["value"]
    assert found.item() == 3
    assert score(Hausdorff(unit="voxels"), moved, true, (5.0, 5.0, 5.0)) == score(
        Hausdorff(), moved, true
    )


def test_a_tolerance_is_met_by_what_lies_exactly_at_it():
    true, moved = box((20, 20), (4, 9), (4, 9)), box((20, 20), (4, 9), (6, 11))
    assert score(SurfaceDice(2.0), moved, true) == (1, 0)
    assert score(SurfaceDice(1.9), moved, true)[0] < 1
    assert score(SurfaceDice(0), true, true) == (1, 0)


@pytest.mark.parametrize("millimetres", [0.1, 0.7, 1.2, 1.4, 2.3])
def test_a_tolerance_of_whole_voxels_is_met_although_spacings_are_rounded(millimetres):
    true, moved = box((20, 20), (4, 9), (4, 9)), box((20, 20), (4, 9), (7, 12))
    spacing = {"spacing": torch.full((1, 3), millimetres)}
    pair = logits(moved[None]), true[None].long()
    assert SurfaceDice(3 * millimetres)(*pair, spacing)["value"].item() == 1
    assert SurfaceDice(2.999 * millimetres)(*pair, spacing)["value"].item() < 1


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_an_empty_mask_is_undefined_beside_another_and_penalised_beside_a_structure(metric):
    shape, spacing = (5, 12, 16), (3.0, 1.0, 1.0)
    empty, there = torch.zeros(shape), box(shape, (1, 3), (2, 6), (2, 6))
    worst = 0.0 if metric.better == "higher" else math.hypot(15, 12, 16)
    assert all(math.isnan(number) for number in score(metric, empty, empty, spacing))
    for pair in ((empty, there), (there, empty)):
        assert score(metric, *pair, spacing) == (pytest.approx(worst), 1)
    assert score(metric, there, there, spacing) == (1.0 if metric.better == "higher" else 0.0, 0)
    assert all(math.isnan(number) for number in score(metric, there, there, (3.0, 0.0, 1.0)))


def test_no_distance_inside_an_image_reaches_the_penalty():
    corners = [box((4, 5, 6), *[(0, 1)] * 3), box((4, 5, 6), (3, 4), (4, 5), (5, 6))]
    farthest, _ = score(Hausdorff(percentile=100), *corners)
    penalty, _ = score(Hausdorff(percentile=100), corners[0], torch.zeros(4, 5, 6))
    assert farthest == pytest.approx(math.hypot(3, 4, 5))
    assert penalty == pytest.approx(math.hypot(4, 5, 6))


def test_a_mean_gets_worse_with_every_structure_that_is_missed():
    true = box((32, 32), (10, 18), (10, 18)).expand(10, 32, 32)
    spacing = {"spacing": torch.ones(10, 3)}
    means = []
    for missed in range(11):
        answer = true.roll(4, dims=-1).clone()
        answer[:missed] = 0
        found = Hausdorff()(logits(answer), true.long(), spacing)
        assert found["penalised"].sum() == missed
        means.append(found["value"].mean().item())
    assert means == sorted(means)
    assert means[0] == 4
    assert means[10] == pytest.approx(32 * math.sqrt(2))


def test_dice_tells_where_its_0_is_a_penalty():
    empty, full = torch.zeros(2, 2), torch.ones(2, 2)
    lone = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    answer, target = (
        torch.stack([empty, full, empty, lone]),
        torch.stack([empty, empty, full, lone]),
    )
    target[3] = torch.tensor([[0.0, 1.0], [0.0, 0.0]])  # both there, and nothing shared
    found = Dice()(logits(answer), target.long())
    assert found["penalised"][0].isnan()
    assert found["penalised"][1:].tolist() == [1, 1, 0]
    assert found["value"][1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_images_of_other_than_two_or_three_axes_are_refused(metric):
    for axes in ((7,), (2, 3, 4, 5)):
        with pytest.raises(InputError, match="needs images of two or three axes"):
            metric(torch.zeros(1, 2, *axes), torch.zeros(1, *axes), {"spacing": torch.ones(1, 3)})
    with pytest.raises(CaseError, match=r"needs spacing \(3,\) in mm per case, got \(2,\)"):
        metric(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3), {"spacing": torch.ones(1, 2)})
    with pytest.raises(InputError, match="needs a segmentation"):
        metric(torch.zeros(4, 3), torch.zeros(4), {"spacing": torch.ones(4, 3)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hausdorff(label=-1), "hausdorff: label must be"),
        (lambda: Hausdorff(percentile=0), "percentile must be a number above 0 and at most 100"),
        (lambda: Hausdorff(percentile=101), "at most 100, got 101"),
        (lambda: Hausdorff(percentile=math.nan), "at most 100, got nan"),
        (lambda: Hausdorff(unit="ml"), "hausdorff: unit must be mm or voxels, got 'ml'"),
        (lambda: SurfaceDistance(unit=1), "surface_distance: unit must be mm or voxels"),
        (lambda: SurfaceDistance(label=True), "surface_distance: label must be"),
        (lambda: SurfaceDice(-1), "tolerance_mm must be a length of at least 0, got -1"),
        (lambda: SurfaceDice(math.inf), "tolerance_mm must be a length"),
        (lambda: SurfaceDice(True), "tolerance_mm must be a length"),
        (lambda: SurfaceDice(1, label="lv"), "surface_dice: label must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
