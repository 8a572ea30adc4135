"""Whether an error crosses a limit of treatment, on hearts whose ejection fraction is set."""

import math

import pytest
import torch
from torch.nn import functional as F

from robustbench_med.clinical import measure
from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.reclassified import Reclassified

SPACING = (10.0, 2.0, 2.0)


def heart(fraction, voxels=200):
    """Masks `(2, 1, 20, 20)` with `voxels` in the LV at ED and the ejection fraction in %."""
    masks = torch.zeros(2, 400, dtype=torch.long)
    masks[0, :voxels] = 1
    masks[1, : voxels - round(voxels * fraction / 100)] = 1
    return masks.view(2, 1, 20, 20)


def score(metric, predicted, true, spacing=SPACING):
    output = F.one_hot(torch.stack(predicted), 4).movedim(-1, 1).float()
    context = {"spacing": torch.tensor([spacing] * len(true))}
    return metric(output, torch.stack(true), context)


def test_the_hearts_of_this_page_have_the_fraction_they_are_named_for():
    assert measure(heart(40).numpy(), SPACING).lvef == 40


@pytest.mark.parametrize(
    ("predicted", "true", "up", "down"),
    [
        (30, 39.5, 0, 0), (39.5, 41, 0, 1), (41, 39.5, 1, 0), (45, 55, 0, 1), (30, 60, 0, 1),
        (60, 30, 1, 0), (70, 51, 0, 0), (41, 49, 0, 0),
        (40, 45, 0, 0), (40, 39.5, 1, 0), (50, 49.5, 1, 0), (50, 70, 0, 0), (50, 50, 0, 0),
    ],
)  # fmt: skip
def test_a_patient_is_reclassified_who_crosses_a_cut_and_a_cut_belongs_to_the_zone_above(
    predicted, true, up, down
):
    found = score(Reclassified(), [heart(predicted)], [heart(true)])
    assert [found[key].item() for key in ("value", "up", "down")] == [up or down, up, down]


def test_a_prediction_without_a_ventricle_is_reclassified_and_neither_up_nor_down():
    empty = torch.zeros_like(heart(50))
    found = score(Reclassified(), [empty], [heart(60)])
    assert [found[key].item() for key in ("value", "up", "down")] == [1, 0, 0]


def test_without_a_true_ventricle_or_a_spacing_there_is_no_answer():
    empty = torch.zeros_like(heart(50))
    for found in (
        score(Reclassified(), [heart(60)], [empty]),
        score(Reclassified(), [heart(60)], [heart(60)], spacing=(10.0, 0.0, 2.0)),
    ):
        assert all(value.isnan().all() for value in found.values())


def test_other_measures_have_cuts_of_their_own():
    metric = Reclassified("lvedv", cuts=[5, 10])
    assert metric.cuts == (5.0, 10.0)
    hearts = [heart(50, voxels) for voxels in (100, 200, 300)]  # 4, 8 and 12 mL
    found = score(metric, hearts, [hearts[1]] * 3)
    assert found["value"].tolist() == [1, 0, 1]
    assert found["up"].tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="lvedv needs cuts of its own"):
        Reclassified("lvedv")
    assert Reclassified("rvef").cuts == (40.0, 50.0)


@pytest.mark.parametrize("cuts", [(), (50, 40), (40, 40), (40, math.nan), (math.inf,), 40, ["40"]])
def test_cuts_that_make_no_zones_are_refused(cuts):
    with pytest.raises(InputError, match="cuts must be rising numbers"):
        Reclassified(cuts=cuts)


def test_what_is_no_measure_or_no_patient_is_refused():
    with pytest.raises(InputError, match=r"measure must be one of lvedv, .*, got 'ef'"):
        Reclassified("ef")
    with pytest.raises(InputError, match="needs whole patients"):
        Reclassified()(torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8), {})
    with pytest.raises(CaseError, match="'spacing' in the case's context"):
        Reclassified()(torch.zeros(1, 4, 2, 1, 8, 8), torch.zeros(1, 2, 1, 8, 8))
