import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from robustbench_med.statistics.proportions import wilson
from robustbench_med.statistics.worst_group import shrink, worst_group

VALUES = np.array([0.90, 0.70, 0.95, 0.85])
ERRORS = np.array([0.02, 0.08, 0.03, 0.05])


def test_shrinking_is_to_the_mean_and_by_the_variance_of_statsmodels():
    oracle = combine_effects(VALUES, np.square(ERRORS), method_re="dl")
    kept = oracle.tau2 / (oracle.tau2 + np.square(ERRORS))
    assert oracle.tau2 > 0
    expected = oracle.mean_effect_re + kept * (VALUES - oracle.mean_effect_re)
    assert shrink(VALUES, ERRORS) == pytest.approx(expected, abs=1e-10)


def test_groups_no_further_apart_than_chance_get_one_value():
    values, errors = np.array([0.80, 0.82, 0.81]), np.array([0.1, 0.2, 0.1])
    centre = np.average(values, weights=1 / errors**2)
    assert shrink(values, errors) == pytest.approx(np.full(3, centre))


def test_what_cannot_be_weighed_is_left_out():
    values = np.append(VALUES, [0.1, math.nan, 0.2])
    errors = np.append(ERRORS, [0.0, 0.1, math.nan])
    shrunk = shrink(values, errors)
    assert shrunk[:4] == pytest.approx(shrink(VALUES, ERRORS))
    assert np.isnan(shrunk[4:]).all()
    alone = shrink(np.array([0.4, math.nan]), np.array([0.1, 0.1]))
    assert alone == pytest.approx([0.4, math.nan], nan_ok=True)


def test_shrinking_keeps_each_group_between_itself_and_the_rest():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, errors = rng.normal(size=9), rng.uniform(0.1, 1, 9)
        shrunk = shrink(values, errors)
        assert (shrunk >= values.min()).all()
        assert (shrunk <= values.max()).all()
        assert np.abs(shrunk - shrunk.mean()).max() <= np.ptp(values)


@pytest.mark.parametrize(
    ("better", "place"), [("higher", 2), ("lower", 0), ("zero", 3), ("one", 2)]
)
def test_worst_is_as_the_metric_says(better, place):
    values = np.array([1.2, math.nan, -1.0, -1.0])
    if better == "zero":
        values[3] = -1.3
    if better == "lower":
        values[2:] = 0.0
    assert worst_group(values, np.full(4, 0.1), better, 2.0).place == place


def test_what_is_said_of_the_worst():
    worst = worst_group(VALUES, ERRORS, "higher", 2.5)
    assert (worst.place, worst.value) == (1, 0.70)
    assert (worst.low, worst.high) == pytest.approx((0.70 - 0.2, 0.70 + 0.2))
    assert worst.corrected == pytest.approx(shrink(VALUES, ERRORS)[1])
    assert worst.value < worst.corrected < worst.high
    oracle = combine_effects(VALUES, np.square(ERRORS), method_re="dl")
    assert worst.spread == pytest.approx(math.sqrt(oracle.tau2))


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_the_worst_is_named_even_if_its_error_is_unknown(error):
    worst = worst_group(np.append(VALUES, 0.0), np.append(ERRORS, error), "higher", 2.5)
    assert (worst.place, worst.value) == (4, 0.0)
    assert np.isnan([worst.corrected, worst.low, worst.high]).all()
    assert worst.spread > 0


def test_an_infinite_worst_value_has_no_limits():
    worst = worst_group(np.append(VALUES, math.inf), np.append(ERRORS, 0.1), "lower", 2.5)
    assert (worst.place, worst.value) == (4, math.inf)
    assert np.isnan([worst.corrected, worst.low, worst.high]).all()


def test_nothing_is_said_where_no_group_has_a_value():
    assert worst_group(np.full(3, math.nan), np.ones(3), "higher", 2.0) is None
    alone = worst_group(np.array([math.nan, 0.4]), np.array([0.1, 0.1]), "higher", 2.0)
    assert alone.corrected == 0.4
    assert math.isnan(alone.spread)


def test_the_worst_of_twelve_equal_groups_is_biased_and_the_corrected_one_hardly():
    rng = np.random.default_rng(1)
    rounds, groups, n, truth = 2000, 12, 60, 0.9
    bonferroni = stats.norm.isf(0.025 / groups)
    naive, corrected, covered_naive, covered = [], [], 0, 0
    for _ in range(rounds):
        shares = rng.binomial(n, truth, groups) / n
        errors = np.sqrt(shares * (1 - shares) / n)
        worst = worst_group(shares, errors, "higher", bonferroni)
        naive.append(worst.value - truth)
        corrected.append(worst.corrected - truth)
        low, high = wilson(worst.value * n, n)
        covered_naive += low <= truth <= high
        covered += worst.low <= truth <= worst.high
    assert np.mean(naive) == pytest.approx(-0.067, abs=0.003)
    assert covered_naive / rounds == pytest.approx(0.66, abs=0.04)
    assert abs(np.mean(corrected)) <= 0.012
    assert covered / rounds >= 0.93


def test_simultaneous_limits_hold_for_whichever_group_is_picked():
    rng = np.random.default_rng(2)
    errors, truths = np.linspace(0.02, 0.08, 12), np.linspace(0.88, 0.90, 12)
    critical = stats.norm.isf(0.025 / 12)
    plain, simultaneous = 0, 0
    for _ in range(2000):
        worst = worst_group(rng.normal(truths, errors), errors, "higher", critical)
        off = abs(worst.value - truths[worst.place]) / errors[worst.place]
        plain += off <= stats.norm.isf(0.025)
        simultaneous += worst.low <= truths[worst.place] <= worst.high
    assert plain / 2000 < 0.88
    assert simultaneous / 2000 >= 0.95
