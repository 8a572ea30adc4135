import numpy as np
import pytest

from robustbench_med.statistics.linear import Linear, ratio
from robustbench_med.statistics.patients import PatientSums
from robustbench_med.statistics.portion import beside, column, minus, of_linears, of_sums

RNG = np.random.default_rng(0)
BELOW = RNG.integers(0, 4, (30, 3)).astype(float)
ABOVE = BELOW * RNG.normal(5, 1, (30, 3))


def mean_of(values):
    values = np.asarray(values, dtype=float)
    return of_sums(PatientSums(values, np.ones(values.shape)))


def test_ratios_of_sums_equal_one_linear_estimate_each():
    found = of_sums(PatientSums(ABOVE, BELOW))
    for place in range(3):
        alone = ratio(ABOVE[:, place], BELOW[:, place])
        own = found.linear(place)
        assert own.value == pytest.approx(alone.value)
        assert own.influence == pytest.approx(alone.influence, abs=1e-15)
        assert own.patients == alone.patients == (BELOW[:, place] > 0).sum()
        assert found.error[place] == pytest.approx(np.sqrt(alone.variance))
    assert found.influence.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert found.deciding.tolist() == found.patients.tolist()


def test_the_error_of_a_mean_is_its_standard_error():
    values = RNG.normal(size=(17, 2))
    expected = values.std(axis=0, ddof=1) / np.sqrt(17)
    assert mean_of(values).error == pytest.approx(expected)


def test_one_patient_has_no_error_and_none_no_value():
    found = of_sums(PatientSums(np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0], [0, 0]])))
    assert found.values[0] == 3.0
    assert np.isnan(found.values[1])
    assert np.isnan(found.error).all()
    assert found.patients.tolist() == [1, 0]
    assert (found.influence == 0).all()


@pytest.mark.parametrize("value", [0.1 + 0.2, 31.5, 1e-9, 0.0])
def test_patients_who_agree_up_to_rounding_pull_nothing(value):
    found = of_sums(PatientSums(np.outer(np.arange(1.0, 8), [value]), np.arange(1.0, 8)[:, None]))
    assert (found.influence == 0).all()
    assert found.error[0] == 0


def test_an_infinite_value_has_no_influences_and_spoils_no_other_column():
    values = np.array([[np.inf, 1.0, np.inf], [2.0, 3.0, -np.inf]])
    found = mean_of(values)
    assert found.values[0] == np.inf
    assert np.isnan(found.values[2])
    assert (found.influence[:, [0, 2]] == 0).all()
    assert found.influence[:, 1] == pytest.approx([-0.5, 0.5])


def test_linear_estimates_stand_side_by_side_and_undefined_ones_hold_nobody():
    held = np.ones((2, 2), dtype=bool)
    linears = [Linear(3.0, np.array([1.0, -1.0]), 2), Linear(np.nan, np.zeros(2), 0)]
    found = of_linears(linears, held, np.array([2, 1]))
    assert found.patients.tolist() == [2, 0]
    assert found.deciding.tolist() == [2, 1]
    assert found.linear(0).influence.tolist() == [1, -1]
    assert found.sums is None


def test_the_difference_of_paired_means_is_the_mean_of_their_differences():
    first = RNG.normal(size=(25, 2))
    second = first + RNG.normal(0.2, 0.1, size=(25, 2))
    found = minus(mean_of(second), mean_of(first))
    paired = second - first
    assert found.values == pytest.approx(paired.mean(axis=0))
    assert found.error == pytest.approx(paired.std(axis=0, ddof=1) / 5)


def test_a_difference_is_shown_by_the_side_with_fewer_patients():
    first, second = of_sums(PatientSums(ABOVE, BELOW)), mean_of(ABOVE)
    for found in (minus(first, second), minus(second, first)):
        assert found.deciding.tolist() == first.deciding.tolist()
        assert found.patients.tolist() == [30, 30, 30]


def test_columns_are_picked_and_joined_in_order():
    found = of_sums(PatientSums(ABOVE, BELOW))
    twice = beside([column(found, [2]), column(found, [0, 1])])
    for name in ("values", "deciding", "patients", "error"):
        whole, parts = getattr(found, name), getattr(twice, name)
        assert parts == pytest.approx(whole[[2, 0, 1]], rel=1e-14)
    np.testing.assert_array_equal(twice.influence, found.influence[:, [2, 0, 1]])
