import numpy as np
import pandas as pd
import pytest

from robustbench_med.errors import InputError
from robustbench_med.statistics.slices import EVERYONE, NOT_RECORDED, Slice, slices_of

CASES = pd.DataFrame(
    {
        "case_id": list("abcde"),
        "patient_id": list("ppqrs"),
        "sex": ["F", "F", "M", None, "M"],
        "age": [61.0, 61.0, 9.0, np.nan, 30.0],
        "band": ["60-80", "60-80", "0-20", "100-120", "20-40"],
        "smoker": [True, True, False, None, False],
    }
)


def test_everyone_is_a_slice_without_attributes():
    assert EVERYONE.mask(CASES).all()
    assert (EVERYONE.subgroup, EVERYONE.group) == ("", "all")


def test_missing_values_form_a_group_of_their_own_that_comes_last():
    assert [s.group for s in slices_of(CASES, ["sex"])] == ["F", "M", NOT_RECORDED]
    assert [s.group for s in slices_of(CASES, ["smoker"])] == ["False", "True", NOT_RECORDED]


def test_missing_comes_last_whatever_the_other_values_are():
    cases = CASES.assign(vendor=["a", "z", None, "z1", "a2"])
    assert [s.group for s in slices_of(cases, ["vendor"])][-1] == NOT_RECORDED


def test_numbers_are_written_plainly_and_ordered_as_numbers():
    assert [s.group for s in slices_of(CASES, ["age"])] == ["9", "30", "61", NOT_RECORDED]
    bands = [s.group for s in slices_of(CASES, ["band"])]
    assert bands == ["0-20", "20-40", "60-80", "100-120"]


def test_the_slices_of_a_subgroup_part_the_cases():
    for columns in (["sex"], ["age"], ["sex", "age"], ["sex", "band", "smoker"]):
        total = sum(s.mask(CASES).astype(int) for s in slices_of(CASES, columns))
        assert (total == 1).all(), columns


def test_an_intersection_holds_the_cases_with_both_values():
    found = Slice(("sex", "age"), ("F", "61"))
    assert found in slices_of(CASES, ["sex", "age"])
    assert found.mask(CASES).tolist() == [True, True, False, False, False]
    assert found.subgroup == "sex \u00d7 age"
    assert found.group == "F \u00d7 61"


def test_intersections_without_cases_are_not_listed():
    assert Slice(("sex", "age"), ("F", "9")) not in slices_of(CASES, ["sex", "age"])


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_the_column_type_does_not_matter(dtype):
    cases = CASES.assign(sex=CASES["sex"].astype(dtype))
    assert [s.group for s in slices_of(cases, ["sex"])] == ["F", "M", NOT_RECORDED]


def test_an_unknown_attribute_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match=r"no attribute 'sexe' in the cases; did you mean 'sex'\?"):
        slices_of(CASES, ["sexe"])
