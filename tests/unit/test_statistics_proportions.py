import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from robustbench_med.errors import InputError
from robustbench_med.statistics.proportions import (
    clopper_pearson,
    effective_size,
    freedom_of,
    rao_scott,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (0, 10), (10, 10), (3, 10), (29, 30), (57, 100), (1999, 2000)]


@pytest.mark.parametrize(("successes", "n"), COUNTS)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_wilson_equals_statsmodels(successes, n, level):
    oracle = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx(oracle, abs=1e-10)


@pytest.mark.parametrize(("successes", "n"), COUNTS)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_clopper_pearson_equals_statsmodels(successes, n, level):
    oracle = proportion_confint(successes, n, alpha=1 - level, method="beta")
    assert clopper_pearson(successes, n, level) == pytest.approx(oracle, abs=1e-10)


def test_impossible_counts_and_levels_are_refused():
    for successes, n, level in [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)]:
        for interval in (wilson, clopper_pearson):
            with pytest.raises(InputError, match="share: "):
                interval(successes, n, level)


def test_effective_size_by_hand():
    # p = 3/6; excess = (2-1)^2 + (1-1)^2 + (0-1)^2 = 2; v = 3/2 * 2 / 36 = 1/12
    assert effective_size([2, 1, 0], [2, 2, 2]) == pytest.approx(0.25 * 12)


def test_patients_who_agree_with_themselves_count_once_each():
    # whole clusters of 0s and 1s: v = p (1 - p) / (I - 1), so n_eff = I - 1
    cases = np.full(50, 8)
    successes = np.repeat([8, 0], [40, 10])
    assert effective_size(successes, cases) == pytest.approx(49)
    trials = 49 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, len(cases) - 1)) ** 2
    assert rao_scott(successes, cases) == pytest.approx(wilson(0.8 * trials, trials))


def test_copies_of_the_cases_do_not_change_the_effective_size():
    successes, cases = np.array([3, 1, 0, 2, 5]), np.array([4, 2, 3, 2, 5])
    once = effective_size(successes, cases)
    assert effective_size(10 * successes, 10 * cases) == pytest.approx(once)


def test_equal_patients_are_counted_once_by_the_exact_interval():
    assert rao_scott([4] * 12, [4] * 12) == clopper_pearson(12, 12)
    assert rao_scott([0] * 12, [4] * 12) == clopper_pearson(0, 12)
    assert rao_scott([1] * 12, [2] * 12) == clopper_pearson(6, 12)


def test_a_single_patient_tells_nothing_of_the_spread():
    assert math.isinf(effective_size([3], [4]))
    assert rao_scott([3], [4]) == clopper_pearson(0.75, 1)


def test_degrees_of_freedom_count_the_patients_who_carry_the_variance():
    assert freedom_of([4] * 12, 20) == pytest.approx(11)
    assert freedom_of([1] * 11 + [100_000], 1.0) == pytest.approx(0, abs=1e-3)
    # sizes that do not matter, since cases of a patient are no more alike than others
    sizes = np.array([1, 2, 3, 4])
    assert freedom_of(sizes, 10.0) == pytest.approx(100 / 30 - 1)


def test_degrees_of_freedom_are_those_that_the_variance_has_in_simulation():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 10, 60)
    rounds = 4000
    shared = rng.normal(size=(rounds, 60)) * np.sqrt(sizes * 0.7 + 0.3 * sizes**2)
    # sums of a patient's cases, normal, with correlation 0.3: the law that the formula is for
    total = shared.sum(axis=1, keepdims=True)
    excess = np.square(shared - sizes * total / sizes.sum()).sum(axis=1)
    observed = 2 * excess.mean() ** 2 / excess.var()
    crowding = np.square(sizes).sum() / sizes.sum() - 1
    expected = freedom_of(sizes, sizes.sum() / (1 + 0.3 * crowding))
    assert observed == pytest.approx(expected, rel=0.1)
