import math

import numpy as np
import pytest

from robustbench_med.statistics.agreement_limits import limits_of_agreement

RNG = np.random.default_rng(12)


def test_one_case_per_patient_is_bland_and_altmans_closed_form():
    errors = RNG.normal(2, 5, 40)
    low, high = limits_of_agreement(errors, np.arange(40), 40)
    reach = 1.96 * errors.std(ddof=1)
    assert (low.value, high.value) == pytest.approx((errors.mean() - reach, errors.mean() + reach))


def test_the_variance_of_a_limit_of_normal_errors_is_bland_and_altmans():
    errors = RNG.normal(0, 3, 200000)
    known = 9 / 200000 * (1 + 1.96**2 / 2)
    for limit in limits_of_agreement(errors, np.arange(200000), 200000):
        assert limit.variance == pytest.approx(known, rel=0.01)


def test_the_mean_of_both_limits_is_the_mean_error_with_its_variance():
    patient = np.repeat(np.arange(30), RNG.integers(1, 6, 30))
    errors = RNG.normal(size=30)[patient] + RNG.normal(size=len(patient))
    low, high = limits_of_agreement(errors, patient, 30)
    sums = np.bincount(patient, errors - errors.mean())
    assert (low.value + high.value) / 2 == pytest.approx(errors.mean())
    assert (low.influence + high.influence) / 2 == pytest.approx(sums / len(errors))
    assert high.influence.sum() == pytest.approx(0, abs=1e-12)


def test_influences_foretell_what_leaving_a_patient_out_does():
    patient = np.repeat(np.arange(150), RNG.integers(1, 6, 150))
    errors = RNG.normal(size=150)[patient] + RNG.normal(size=len(patient))
    whole = limits_of_agreement(errors, patient, 150)
    kept = [patient != one for one in range(150)]
    without = [limits_of_agreement(errors[part], patient[part], 150) for part in kept]
    for place in range(2):
        change = whole[place].value - np.array([limits[place].value for limits in without])
        assert np.corrcoef(change, whole[place].influence)[0, 1] > 0.999


def test_the_spread_of_clustered_errors_is_that_of_a_new_case_of_a_new_patient():
    rng, squares = np.random.default_rng(13), []
    patient = np.repeat(np.arange(12), 6)
    for _ in range(2000):
        errors = rng.normal(size=12)[patient] + rng.normal(size=72)
        low, high = limits_of_agreement(errors, patient, 12)
        squares.append(((high.value - low.value) / 2 / 1.96) ** 2)
    assert np.mean(squares) == pytest.approx(2, rel=0.03)


def test_equal_errors_have_limits_that_coincide_and_do_not_move():
    low, high = limits_of_agreement(np.full(5, 0.25), np.arange(5), 5)
    assert low.value == high.value == 0.25
    assert low.variance == high.variance == 0


@pytest.mark.parametrize("cases", [0, 4])
def test_fewer_than_two_patients_have_no_limits(cases):
    for limit in limits_of_agreement(np.arange(float(cases)), np.full(cases, 1), 3):
        assert math.isnan(limit.value)
        assert len(limit.influence) == 3
