"""Reference zones, on the limits themselves and on hearts whose volume is set."""

import math

import pytest
import torch
from torch.nn import functional as F

from robustbench_med.clinical import CUTS, INDEXED, zone
from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.reference_zone import ReferenceZone


@pytest.mark.parametrize("measure", list(CUTS))
@pytest.mark.parametrize("male", [True, False])
@pytest.mark.parametrize("bsa", [None, 1.0, 2.0])
def test_a_value_at_a_limit_is_normal_and_one_beyond_is_not(measure, male, bsa):
    low, high = (CUTS if bsa is None else INDEXED)[measure][0 if male else 1]
    low, high = low * (bsa or 1), high * (bsa or 1)
    for value, expected in ((low - 0.1, "low"), (low, "normal"), (high, "normal"),
                            (high + 0.1, "high"), (0.0, "low"), (math.nan, None)):  # fmt: skip
        assert zone(measure, value, male=male, bsa=bsa) == expected


def test_limits_rise_and_men_have_larger_hearts():
    for table in (CUTS, INDEXED):
        for men, women in table.values():
            assert men[0] < men[1]
            assert women[0] < women[1]
            assert men[1] > women[1]


@pytest.mark.parametrize("bad", [{"measure": "lvef"}, {"bsa": 0.0}, {"bsa": math.nan}])
def test_what_has_no_zone_is_refused_in_one_line(bad):
    with pytest.raises(InputError, match="zone: ") as error:
        zone(**{"measure": "lvedv", "value": 100.0, "male": True} | bad)
    assert "\n" not in str(error.value)


def heart(ml):
    """Masks `(2, 1, 20, 20)` whose LV at ED has `ml`, voxels of 1 mL."""
    masks = torch.zeros(2, 400, dtype=torch.long)
    masks[0, :ml] = 1
    return masks.view(2, 1, 20, 20)


def score(metric, predicted, true, **context):
    output = F.one_hot(torch.stack([heart(n) for n in predicted]), 4).movedim(-1, 1).float()
    known = {"spacing": torch.tensor([[10.0, 10.0, 10.0]] * len(true))}
    known |= {name: torch.tensor(values) for name, values in context.items()}
    return metric(output, torch.stack([heart(n) for n in true]), known)


def test_a_patient_moves_who_crosses_a_limit_of_his_own_sex():
    found = score(
        ReferenceZone(indexed=False), [150, 180, 180, 90, 0], [140, 170, 170, 95, 100],
        male=[1.0, 1.0, 0.0, 1.0, 0.0],
    )  # fmt: skip
    assert found["value"].tolist() == [0, 0, 1, 1, 1]
    assert found["up"].tolist() == [0, 0, 1, 0, 0]
    assert found["down"].tolist() == [0, 0, 0, 1, 1]


def test_indexed_zones_need_the_body_and_are_undefined_without_one():
    found = score(
        ReferenceZone(), [120, 120, 120, 120], [100, 100, 100, 100],
        male=[1.0, 1.0, 1.0, 0.5], bsa=[1.0, 2.0, math.nan, 2.0],
    )  # fmt: skip
    assert found["value"][:2].tolist() == [1, 1]
    assert found["value"][2:].isnan().all()
    with pytest.raises(CaseError, match="'bsa'"):
        score(ReferenceZone(), [100], [100], male=[1.0])


@pytest.mark.parametrize("bad", [{"measure": "lvef"}, {"indexed": 1}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="reference_zone: "):
        ReferenceZone(**bad)
