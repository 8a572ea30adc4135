import math

import numpy as np
import pytest

from robustbench_med.statistics.bootstrap import generator, percentile, resample
from robustbench_med.statistics.estimate import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    RAO_SCOTT,
    WILSON,
    of_mean,
    of_share,
)
from robustbench_med.statistics.proportions import clopper_pearson, rao_scott, wilson


def mean_of(above, below):
    above, below = np.array(above, dtype=float), np.array(below, dtype=float)
    draws = resample(above[:, None], below[:, None], generator(0), 300)[:, 0]
    return of_mean(above, below, draws, 4), draws


def test_one_case_per_patient_gets_wilson():
    found = of_share(np.array([1.0, 0, 1, 1, 0]), np.array([1.0, 1, 1, 1, 0]), 7)
    assert (found.value, found.method, found.patients, found.undefined) == (0.75, WILSON, 4, 7)
    assert (found.low, found.high) == wilson(3, 4)


def test_several_cases_per_patient_get_rao_scott():
    successes, cases = np.array([3.0, 0, 1, 2]), np.array([3.0, 2, 2, 2])
    found = of_share(successes, cases)
    assert (found.value, found.method, found.patients) == (6 / 9, RAO_SCOTT, 4)
    assert (found.low, found.high) == rao_scott(successes, cases)


def test_several_cases_without_spread_get_clopper_pearson_on_patients():
    found = of_share(np.array([2.0, 2, 2]), np.array([2.0, 2, 2]))
    assert (found.value, found.method, found.patients) == (1.0, CLOPPER_PEARSON, 3)
    assert (found.low, found.high) == clopper_pearson(3, 3)


def test_a_mean_is_a_ratio_of_sums_with_percentile_limits():
    found, draws = mean_of([3.0, 1.0, 0.0, 8.0], [2, 1, 0, 4])
    assert (found.value, found.patients, found.undefined) == (12 / 7, 3, 4)
    assert (found.low, found.high, found.method) == (*percentile(draws), BOOTSTRAP)


@pytest.mark.parametrize("values", [[0.3 + 0.0, 0.1 + 0.2, 0.3], [0, 0, 0], [5]])
def test_equal_patients_get_no_interval(values):
    found, _ = mean_of(values, np.ones(len(values)))
    assert found.value == pytest.approx(values[0])
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.method == ""


def test_an_infinite_mean_gets_no_interval():
    found, _ = mean_of([np.inf, 1.0, 2.0], [1, 1, 1])
    assert (found.value, found.method) == (math.inf, "")


def test_nothing_defined_is_nan_with_no_patients():
    for found in (of_share(np.zeros(3), np.zeros(3), 4), mean_of([0, 0, 0], [0, 0, 0])[0]):
        assert math.isnan(found.value)
        assert math.isnan(found.low)
        assert (found.patients, found.undefined, found.method) == (0, 4, "")
