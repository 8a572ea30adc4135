"""Metrics of whole patients against measures that are known by construction."""

import math

import pytest
import torch
from torch.nn import functional as F

from robustbench_med import Case, Cohort, Task, TorchModel, clean, evaluate
from robustbench_med.clinical import UNITS, measure
from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.diagnosis import Diagnosis
from robustbench_med.metrics.measure_error import MeasureError

CLASSES = ("background", "lv", "myo", "rv")
SPACING = (10.0, 2.0, 2.0)


def heart(diastole, systole, *, rv=(17, 8)):
    """Masks `(2, 8, 40, 40)` of a square LV with sides in pixels, 10 mm of wall, and an RV."""
    masks = torch.zeros(2, 8, 40, 40, dtype=torch.long)
    for phase, (side, long) in enumerate(zip((diastole, systole), rv, strict=True)):
        low, high = 22 - side // 2, 22 - side // 2 + side
        masks[phase, :, low - 5 : high + 5, low - 5 : high + 5] = 2
        masks[phase, :, low:high, low:high] = 1
        masks[phase, :, 10 : 10 + long, :6] = 3
    return masks


WELL = heart(18, 10)
FAILING = heart(20, 18)


def logits(masks):
    return F.one_hot(torch.stack(masks), 4).movedim(-1, 1).float()


def context(number, **changed):
    usual = {"spacing": torch.tensor([SPACING] * number), "bsa": torch.full((number,), 1.5),
             "male": torch.ones(number)}  # fmt: skip
    return {**usual, **changed}


def test_the_error_of_an_ejection_fraction_is_that_of_the_volumes():
    found = MeasureError()(logits([FAILING, WELL]), torch.stack([WELL, WELL]), context(2))
    well, failing = 100 * (1 - (10 / 18) ** 2), 100 * (1 - (18 / 20) ** 2)
    assert found["predicted"].tolist() == pytest.approx([failing, well])
    assert found["true"].tolist() == pytest.approx([well, well])
    assert found["value"].tolist() == pytest.approx([failing - well, 0])


@pytest.mark.parametrize("name", UNITS)
def test_every_measure_can_be_asked_for(name):
    metric = MeasureError(name)
    found = metric(logits([FAILING]), WELL[None], context(1))
    expected = [getattr(measure(masks.numpy(), SPACING), name) for masks in (FAILING, WELL)]
    assert [found["predicted"].item(), found["true"].item()] == pytest.approx(expected)
    assert metric.unit == UNITS[name]


def test_volumes_use_each_case_s_own_spacing():
    spacing = torch.tensor([[10.0, 2.0, 2.0], [5.0, 1.0, 2.0], [10.0, -1.0, 2.0]])
    found = MeasureError("lvedv")(
        logits([FAILING] * 3), torch.stack([WELL] * 3), context(3, spacing=spacing)
    )
    voxels = 8 * (20**2 - 18**2)
    assert found["value"][:2].tolist() == pytest.approx([voxels * 40 / 1000, voxels * 10 / 1000])
    assert found["value"][2].isnan()


def test_a_ventricle_that_is_not_found_has_no_volume_and_no_ejection_fraction():
    empty = torch.zeros_like(WELL)
    volume = MeasureError("lvedv")(logits([empty]), WELL[None], context(1))
    assert volume["value"].item() == pytest.approx(-8 * 18**2 * 40 / 1000)
    fraction = MeasureError("lvef")(logits([empty]), WELL[None], context(1))
    assert fraction["value"].isnan()
    assert fraction["true"].isfinite()


def test_a_diagnosis_is_right_wrong_or_without_an_answer():
    truth = torch.stack([WELL, WELL, WELL, heart(18, 14)])
    answer = logits([WELL, FAILING, torch.zeros_like(WELL), WELL])
    found = Diagnosis()(answer, truth, context(4))
    assert found[:3].tolist() == [1, 0, 0]
    assert found[3].isnan()


def test_a_diagnosis_takes_the_limits_of_the_patients_sex_and_size():
    wide = heart(20, 12)  # 85 mL/m^2 at 1.5 m^2: normal in a man, not in a woman
    many = context(4, male=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    many["bsa"] = torch.tensor([1.5, 1.5, 1.3, math.nan])
    found = Diagnosis()(logits([wide] * 4), torch.stack([wide] * 4), many)
    assert found.isnan().tolist() == [False, True, True, True]
    assert Diagnosis()(logits([wide]), wide[None], context(1, male=torch.tensor([0.5]))).isnan()


def test_what_the_context_lacks_is_named():
    pair = logits([WELL]), WELL[None]
    with pytest.raises(CaseError, match="'spacing' in the case's context, which has nothing"):
        MeasureError()(*pair)
    with pytest.raises(CaseError, match="'bsa' and 'male' in the case's context, which has spac"):
        Diagnosis()(*pair, {"spacing": torch.tensor([SPACING])})
    with pytest.raises(CaseError, match=r"spacing \(3,\) in mm per case, got \(2,\)"):
        MeasureError()(*pair, {"spacing": torch.ones(1, 2)})


@pytest.mark.parametrize("metric", [MeasureError(), Diagnosis()])
def test_what_is_no_whole_patient_is_refused(metric):
    for output, target in (
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8)),
        (torch.zeros(1, 3, 2, 4, 8, 8), torch.zeros(1, 2, 4, 8, 8)),
        (torch.zeros(1, 4, 1, 4, 8, 8), torch.zeros(1, 1, 4, 8, 8)),
        (torch.zeros(1, 4, 2, 4, 8, 8), torch.zeros(1, 2, 4, 8, 9)),
    ):
        with pytest.raises(InputError, match="needs whole patients"):
            metric(output, target.long(), context(1))


def test_a_measure_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"measure must be one of lvedv, .*, got 'ef'"):
        MeasureError("ef")


class Copier(torch.nn.Module):
    """Segments an image that holds the class indices."""

    def forward(self, image):
        return F.one_hot(image[:, 0].round().long(), 4).movedim(-1, 1).float()


def test_a_run_records_both_the_error_and_what_it_is_made_of():
    shown, truth = FAILING, WELL
    case = Case("p", "p", shown[None].float(), truth, {k: v[0] for k, v in context(1).items()})
    cohort = Cohort("hearts", Task("segmentation", CLASSES), (0, 3), [case])
    model = TorchModel(Copier(), cohort.task, cohort.bounds)
    probe = clean({"ef": MeasureError(), "diagnosis": Diagnosis()})
    values = {record.metric: record.value for record in evaluate(model, cohort, [probe])}
    assert set(values) == {"ef", "ef.predicted", "ef.true", "diagnosis"}
    assert values["ef"] == pytest.approx(values["ef.predicted"] - values["ef.true"])
    assert values["diagnosis"] == 0
