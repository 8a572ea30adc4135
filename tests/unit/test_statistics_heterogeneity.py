import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.oneway import anova_oneway

from robustbench_med.errors import InputError
from robustbench_med.statistics.heterogeneity import (
    between_variance,
    cochran_q,
    permuted_gap,
    welch,
)

RNG = np.random.default_rng(0)
GROUPS = [
    (np.array([0.8, 0.9]), np.array([0.03, 0.02])),
    (RNG.normal(0.5, 0.1, 7), RNG.uniform(0.01, 0.1, 7)),
    (np.array([0.30, 0.31, 0.28]), np.array([0.1, 0.2, 0.1])),
]


@pytest.mark.parametrize(("values", "errors"), GROUPS)
def test_q_and_the_variance_between_groups_equal_statsmodels(values, errors):
    with np.errstate(invalid="ignore"):
        oracle = combine_effects(values, np.square(errors), method_re="dl")
    assert cochran_q(values, errors) == pytest.approx(oracle.test_homogeneity().pvalue, abs=1e-10)
    assert between_variance(values, errors) == pytest.approx(max(0.0, oracle.tau2), abs=1e-10)


def test_equal_groups_do_not_differ():
    assert cochran_q(np.full(5, 0.3), np.full(5, 0.1)) == pytest.approx(1.0)
    assert between_variance(np.full(5, 0.3), np.full(5, 0.1)) == 0.0


@pytest.mark.parametrize("function", [cochran_q, between_variance])
def test_groups_without_a_value_or_an_error_are_left_out(function):
    values = np.array([0.5, 0.7, math.nan, 0.9, 0.2])
    errors = np.array([0.1, 0.1, 0.1, 0.0, math.nan])
    assert function(values, errors) == function(values[:2], errors[:2])
    assert math.isnan(function(values[2:], errors[2:]))


def test_q_keeps_its_level_with_known_errors():
    rng = np.random.default_rng(1)
    errors = np.linspace(0.02, 0.1, 8)
    p = [cochran_q(rng.normal(0.9, errors), errors) for _ in range(3000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.013)


def test_q_of_shares_with_the_errors_of_the_pooled_share_is_pearsons_chi_square():
    right, patients = np.array([50, 60, 27, 20]), np.array([60, 66, 27, 31])
    pooled = right.sum() / patients.sum()
    errors = np.sqrt(pooled * (1 - pooled) / patients)
    oracle = stats.chi2_contingency([right, patients - right], correction=False).pvalue
    assert cochran_q(right / patients, errors) == pytest.approx(oracle, abs=1e-12)


def means_and_errors(samples):
    means = np.array([sample.mean() for sample in samples])
    return means, np.array([stats.sem(sample) for sample in samples])


def test_welch_equals_statsmodels():
    rng = np.random.default_rng(5)
    for sizes in ([10, 15, 7], [40, 5], [12, 12, 30, 8, 9]):
        samples = [rng.normal(0, rng.uniform(0.5, 2), size) for size in sizes]
        found = welch(*means_and_errors(samples), np.array(sizes) - 1.0)
        assert found == pytest.approx(anova_oneway(samples, use_var="unequal").pvalue, abs=1e-10)


def test_welch_leaves_out_what_has_no_error():
    values, errors = np.array([0.5, 0.7, 0.9, math.nan]), np.array([0.1, 0.1, 0.0, 0.1])
    df = np.array([9.0, 19.0, 29.0, 9.0])
    assert welch(values, errors, df) == welch(values[:2], errors[:2], df[:2])
    assert math.isnan(welch(values[1:], errors[1:], df[1:]))


def test_welch_keeps_its_level_with_few_patients_where_q_does_not():
    rng, df = np.random.default_rng(6), np.full(8, 9.0)
    by_welch, by_q = [], []
    for _ in range(1500):
        samples = rng.normal(size=(8, 10))
        means, errors = samples.mean(axis=1), samples.std(axis=1, ddof=1) / math.sqrt(10)
        by_welch.append(welch(means, errors, df) <= 0.05)
        by_q.append(cochran_q(means, errors) <= 0.05)
    assert np.mean(by_welch) == pytest.approx(0.05, abs=0.02)
    assert np.mean(by_q) > 0.1


def test_the_gap_is_between_ratios_of_sums():
    numerator, denominator = np.array([1.0, 2.0, 0.0, 3.0]), np.array([2.0, 2.0, 1.0, 3.0])
    gap = permuted_gap(numerator, denominator, np.array([0, 0, 1, 1]), np.random.default_rng(0), 50)
    assert gap.value == pytest.approx(abs(3 / 4 - 3 / 4))
    assert gap.p == 1.0


def test_the_p_value_is_the_share_of_all_assignments():
    values, ones = np.array([0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.1]), np.ones(7)
    group = np.array([0, 0, 0, 1, 1, 1, 1])
    gap = permuted_gap(values, ones, group, np.random.default_rng(0), 20000)
    gaps = np.array(
        [
            abs(values[list(first)].mean() - np.delete(values, list(first)).mean())
            for first in itertools.combinations(range(7), 3)
        ]
    )
    assert gap.p == pytest.approx((gaps >= gap.value - 1e-12).mean(), abs=0.004)
    assert gap.chance == pytest.approx(gaps.mean(), abs=0.005)


def test_patients_without_group_or_cases_are_left_out():
    values, group = np.array([0.1, 0.4, 0.2, 0.9, 0.7]), np.array([3, 3, 8, 8, 8])
    clean = permuted_gap(values, np.ones(5), group, np.random.default_rng(1), 99)
    padded = permuted_gap(
        np.append(values, [math.nan, 5.0]),
        np.append(np.ones(5), [0.0, 1.0]),
        np.append(group, [3, -1]),
        np.random.default_rng(1),
        99,
    )
    assert padded == clean


@pytest.mark.parametrize("group", [[0, 0, 0], [-1, -1, -1]])
def test_fewer_than_two_groups_have_no_gap(group):
    gap = permuted_gap(np.arange(3.0), np.ones(3), np.array(group), np.random.default_rng(0), 9)
    assert np.isnan([gap.value, gap.chance, gap.p]).all()


def test_infinite_values_are_refused():
    with pytest.raises(InputError, match="permuted gap: expected finite values"):
        permuted_gap(
            np.array([1.0, math.inf]), np.ones(2), np.array([0, 1]), np.random.default_rng(0), 9
        )


def test_a_planted_gap_is_found():
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(6), 80)
    correct = (rng.uniform(size=480) < np.where(group == 4, 0.7, 0.92)).astype(float)
    gap = permuted_gap(correct, np.ones(480), group, np.random.default_rng(0), 500)
    assert gap.value > 2 * gap.chance
    assert gap.p == pytest.approx(1 / 501)


def test_without_a_gap_the_largest_one_is_large_and_its_p_value_says_so():
    rng, group = np.random.default_rng(3), np.repeat(np.arange(8), 100)
    rounds, ones = 400, np.ones(800)
    gaps, excluded = [], 0
    for number in range(rounds):
        correct = (rng.uniform(size=800) < 0.9).astype(float)
        gaps.append(permuted_gap(correct, ones, group, np.random.default_rng(number), 99))
        if number < 30:
            # the usual bootstrap of max - min, which can never reach below zero
            shares = rng.binomial(100, correct.reshape(8, 100).mean(axis=1), (300, 8)) / 100
            excluded += np.quantile(np.ptp(shares, axis=1), 0.025) > 0
    assert excluded == 30
    assert np.mean([gap.value for gap in gaps]) == pytest.approx(0.085, abs=0.003)
    assert np.mean([gap.chance for gap in gaps]) == pytest.approx(0.085, abs=0.003)
    assert np.mean([gap.p <= 0.05 for gap in gaps]) <= 0.05 + 0.03


def test_shuffles_are_made_in_blocks_of_bounded_size(monkeypatch):
    values, ones = np.random.default_rng(4).normal(size=30), np.ones(30)
    group = np.arange(30) % 3
    whole = permuted_gap(values, ones, group, np.random.default_rng(0), 64)
    monkeypatch.setattr("robustbench_med.statistics.heterogeneity.BLOCK_CELLS", 100)
    assert permuted_gap(values, ones, group, np.random.default_rng(0), 64) == whole
