import math

import numpy as np
import pytest

from robustbench_med.statistics.estimate import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    RAO_SCOTT,
    WILSON,
    Estimate,
    bare,
    of_share,
    within,
)
from robustbench_med.statistics.proportions import (
    clopper_pearson,
    effective_size,
    rao_scott,
    wilson,
)


def test_one_case_per_patient_gets_wilson():
    found = of_share(np.array([1.0, 0, 1, 1, 0]), np.array([1.0, 1, 1, 1, 0]))
    assert (found.value, found.method, found.trials) == (0.75, WILSON, 4)
    assert (found.low, found.high) == wilson(3, 4)


def test_several_cases_per_patient_get_rao_scott():
    successes, cases = np.array([3.0, 0, 1, 2, 0]), np.array([3.0, 2, 2, 2, 0])
    found = of_share(successes, cases)
    assert (found.value, found.method) == (6 / 9, RAO_SCOTT)
    assert found.trials == effective_size(successes[:4], cases[:4])
    assert (found.low, found.high) == rao_scott(successes[:4], cases[:4])


def test_several_cases_without_spread_get_clopper_pearson_on_patients():
    found = of_share(np.array([2.0, 2, 2]), np.array([2.0, 2, 2]))
    assert (found.value, found.method, found.trials) == (1.0, CLOPPER_PEARSON, 3)
    assert (found.low, found.high) == clopper_pearson(3, 3)


def test_copies_of_every_case_add_no_trials():
    rng = np.random.default_rng(0)
    successes, cases = rng.integers(0, 3, 40).astype(float), np.full(40, 2.0)
    once, often = of_share(successes, cases), of_share(successes * 10, cases * 10)
    assert (often.trials, often.low, often.high) == pytest.approx(
        (once.trials, once.low, once.high)
    )


def test_nothing_defined_is_nan_without_a_method():
    found = of_share(np.zeros(3), np.zeros(3))
    assert np.isnan([found.value, found.low, found.high, found.trials]).all()
    assert found.method == ""


def test_an_interval_is_cut_to_where_values_lie_and_the_rest_is_kept():
    wide = Estimate(0.9, -0.2, 1.3, BOOTSTRAP, 7.0)
    assert within(wide, (0.0, 1.0)) == Estimate(0.9, 0.0, 1.0, BOOTSTRAP, 7.0)
    assert within(wide, (-1.0, 2.0)) == wide
    assert within(wide, None) is wide
    none = bare(0.9)
    assert within(none, (0.0, 1.0)) is none


def test_a_bare_number_has_no_interval():
    found = bare(3.5)
    assert (found.value, found.method) == (3.5, "")
    assert math.isnan(found.low)
    assert math.isnan(found.high)
