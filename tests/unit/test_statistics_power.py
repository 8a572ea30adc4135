import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower, normal_power_het

from robustbench_med.errors import InputError
from robustbench_med.statistics.power import (
    design_effect,
    detectable_difference,
    mean_difference_error,
    pairs_needed,
    patients_needed,
    positives_needed,
    power_of,
    share_difference_error,
)
from robustbench_med.statistics.proportions import clopper_pearson


@pytest.mark.parametrize("gap", [-0.3, 0.0, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_power_equals_statsmodels(gap, alpha):
    error = mean_difference_error(1.0, 40, 90)
    oracle = NormalIndPower().power(gap, 40, alpha, ratio=90 / 40)
    assert power_of(gap, error, alpha=alpha) == pytest.approx(oracle, abs=1e-10)


@pytest.mark.parametrize("tests", [1, 12, 2000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.9])
def test_the_detectable_difference_is_found_with_the_stated_power(tests, power):
    gap = detectable_difference(0.03, tests, power=power)
    assert power_of(gap, 0.03, tests) == pytest.approx(power, abs=1e-4)
    assert detectable_difference(1.0, tests, power=power) * 0.03 == pytest.approx(gap)


def test_more_tests_need_a_larger_gap_by_bonferroni():
    z = stats.norm.ppf([1 - 0.05 / 24, 0.8])
    assert detectable_difference(0.1, tests=12) == pytest.approx(0.1 * z.sum())


def test_without_an_error_nothing_is_said():
    assert math.isnan(detectable_difference(math.nan))
    assert math.isnan(power_of(0.1, math.nan))
    assert math.isnan(power_of(0.1, 0.0))


def test_errors_of_differences_by_hand():
    assert share_difference_error(0.9, 100, 300) == pytest.approx(
        math.sqrt(0.09 * (0.01 + 1 / 300))
    )
    assert mean_difference_error(2.0, 16, 16) == pytest.approx(2 * math.sqrt(1 / 8))
    assert mean_difference_error(2.0, 16, 16, 4.0) == pytest.approx(4 * math.sqrt(1 / 8))
    assert design_effect(8, 0.5) == 4.5
    assert design_effect(1, 0.5) == design_effect(20, 0.0) == 1


def test_the_design_effect_is_the_variance_of_clustered_means():
    rng = np.random.default_rng(0)
    patients, cases, icc = 4000, 6, 0.4
    shared = rng.normal(0, math.sqrt(icc), (patients, 1))
    values = shared + rng.normal(0, math.sqrt(1 - icc), (patients, cases))
    variance = values.mean(axis=1).var(ddof=1) * cases
    assert variance == pytest.approx(design_effect(cases, icc), rel=0.07)


@pytest.mark.parametrize(("gap", "needed"), [(0.15, 97), (0.10, 197), (0.05, 683), (0.03, 1772)])
def test_patients_for_a_gap_from_90_percent_in_two_equal_groups(gap, needed):
    assert patients_needed(gap, 0.9) == needed


@pytest.mark.parametrize("rest", [1.0, 3.0, 11.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_patients_needed_is_where_statsmodels_says_the_power_is_reached(rest, power):
    needed = patients_needed(0.1, 0.9, rest, power=power)
    spread = math.sqrt(0.8 * 0.2 + 0.9 * 0.1 / rest)
    reached = [normal_power_het(0.1, n, 0.05, spread, spread) for n in (needed - 1, needed)]
    assert reached[0] < power <= reached[1]


def test_more_tests_and_higher_gaps_move_the_patients_needed():
    assert patients_needed(0.1, 0.9, tests=12) > 1.5 * patients_needed(0.1, 0.9)
    assert patients_needed(-0.05, 0.9) < patients_needed(0.05, 0.9)
    assert patients_needed(1.0, 1.0) == 1


@pytest.mark.parametrize(("margin", "needed"), [(0.05, 314), (0.03, 873), (0.10, 79)])
def test_pairs_for_noninferiority_at_a_tenth_discordant(margin, needed):
    assert pairs_needed(margin, 0.1) == needed


@pytest.mark.parametrize(
    ("true", "goal", "needed"),
    [(0.90, 0.80, 107), (0.92, 0.85, 169), (0.95, 0.90, 231), (0.95, 0.85, 75), (0.90, 0.85, 356)],
)
def test_positives_for_an_exact_lower_limit_above_a_goal(true, goal, needed):
    assert positives_needed(true, goal) == needed


def test_positives_needed_by_the_limits_themselves():
    def power(n):
        passing = [k for k in range(n + 1) if clopper_pearson(k, n)[0] > 0.85]
        return stats.binom.pmf(passing, n, 0.95).sum()

    powers = [power(n) for n in range(50, 76)]
    assert powers[-1] >= 0.8 > max(powers[:-1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: detectable_difference(0.1, tests=0),
        lambda: detectable_difference(0.1, alpha=1.0),
        lambda: detectable_difference(0.1, power=1.0),
        lambda: share_difference_error(1.2, 10, 10),
        lambda: mean_difference_error(1.0, 0, 10),
        lambda: mean_difference_error(-1.0, 10, 10),
        lambda: design_effect(0.5, 0.1),
        lambda: design_effect(2, 1.5),
        lambda: patients_needed(0.95, 0.9),
        lambda: patients_needed(0.0, 0.9),
        lambda: pairs_needed(0.0, 0.1),
        lambda: positives_needed(0.8, 0.8),
        lambda: positives_needed(0.8, -0.1),
        lambda: positives_needed(0.9, 0.8, power=0.0),
    ],
)
def test_impossible_numbers_are_refused(call):
    with pytest.raises(InputError, match="power: "):
        call()
