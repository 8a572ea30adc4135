import itertools
import math

import numpy as np
import pytest

from robustbench_med.statistics.unknown import bounds_with_unknown


def enumerated(numerator, denominator, above, below):
    """All ratios that some set of the unrecorded patients gives."""
    ratios = []
    for chosen in itertools.product([False, True], repeat=len(above)):
        mask = np.array(chosen, dtype=bool)
        bottom = denominator + below[mask].sum()
        if bottom > 0:
            ratios.append((numerator + above[mask].sum()) / bottom)
    return min(ratios), max(ratios)


@pytest.mark.parametrize("seed", range(60))
def test_bounds_equal_the_enumeration_of_all_sets(seed):
    rng = np.random.default_rng(seed)
    unknown = rng.integers(1, 9)
    below = rng.integers(0, 5, unknown).astype(float)
    below[0] = 1.0
    above = np.where(below > 0, rng.normal(0.5, 0.5, unknown) * below, 0.0)
    denominator = float(rng.integers(0, 10))
    numerator = denominator * rng.uniform()
    oracle = enumerated(numerator, denominator, above, below)
    assert bounds_with_unknown(numerator, denominator, above, below) == pytest.approx(oracle)


def test_shares_with_one_case_per_patient_have_the_textbook_bounds():
    failed, right = np.zeros(4), np.ones(6)
    found = bounds_with_unknown(40.0, 50.0, np.append(failed, right), np.ones(10))
    assert found == pytest.approx((40 / 54, 46 / 56))


def test_a_patient_is_taken_whole_or_not_at_all():
    # 3 of 4 cases right: their patient cannot give the 3 without the 1
    assert bounds_with_unknown(1.0, 2.0, np.array([3.0]), np.array([4.0])) == pytest.approx(
        (1 / 2, 4 / 6)
    )


def test_without_unrecorded_patients_the_value_is_known():
    empty = np.array([])
    assert bounds_with_unknown(3.0, 4.0, empty, empty) == (0.75, 0.75)
    assert bounds_with_unknown(3.0, 4.0, np.zeros(2), np.zeros(2)) == (0.75, 0.75)


def test_without_known_patients_any_of_the_others_may_be_the_group():
    above, below = np.array([1.0, 1.0, 0.0]), np.array([2.0, 1.0, 3.0])
    assert bounds_with_unknown(0.0, 0.0, above, below) == (0.0, 1.0)


def test_with_nobody_at_all_there_are_no_bounds():
    assert np.isnan(bounds_with_unknown(0.0, 0.0, np.array([]), np.array([]))).all()


def test_an_infinite_value_is_possible_on_one_side_only():
    low, high = bounds_with_unknown(3.0, 2.0, np.array([math.inf, 1.0]), np.ones(2))
    assert (low, high) == (pytest.approx(4 / 3), math.inf)


def test_bounds_hold_the_value_under_the_truth():
    rng = np.random.default_rng(0)
    below = rng.integers(1, 4, 40).astype(float)
    above = rng.binomial(below.astype(int), 0.8).astype(float)
    recorded, belongs = rng.uniform(size=40) < 0.7, rng.uniform(size=40) < 0.5
    known = recorded & belongs
    low, high = bounds_with_unknown(
        above[known].sum(), below[known].sum(), above[~recorded], below[~recorded]
    )
    assert low < above[belongs].sum() / below[belongs].sum() < high
