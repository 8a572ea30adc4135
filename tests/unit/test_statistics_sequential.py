import math

import numpy as np
import pytest
from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.sequential import BETS, betting_e_process


def right(rng, chances):
    return (rng.uniform(size=len(chances)) < chances).astype(float)


def test_wealth_by_hand():
    values, goal = np.array([0.0, 1.0, 0.5]), 0.8
    wealth, expected = np.ones(len(BETS)), []
    for value in values:
        wealth *= 1 + BETS / (1 - goal) * (goal - value)
        expected.append(wealth.mean())
    assert betting_e_process(values, goal) == pytest.approx(expected)


def test_one_more_value_is_a_fair_or_losing_bet_whatever_came_before():
    rng = np.random.default_rng(0)
    for goal in (0.3, 0.9):
        past = rng.uniform(size=50)
        now = betting_e_process(past, goal)[-1]
        after = [betting_e_process(np.append(past, value), goal)[-1] for value in (0.0, 1.0)]
        for mean in (goal, goal + 0.05, 1.0):
            expected = (1 - mean) * after[0] + mean * after[1]
            assert expected <= now * (1 + 1e-12)
        assert (1 - goal) * after[0] + goal * after[1] == pytest.approx(now)


def test_it_only_looks_at_what_came_before():
    values = np.random.default_rng(1).uniform(size=80)
    assert betting_e_process(values[:30], 0.7) == pytest.approx(betting_e_process(values, 0.7)[:30])
    assert betting_e_process(np.array([]), 0.7).shape == (0,)


def test_evidence_beyond_all_numbers_stays_a_number():
    e = betting_e_process(np.zeros(5000), 0.9)
    assert np.isfinite(e).all()
    assert (betting_e_process(np.ones(5000), 0.9) > 0).all()


@pytest.mark.parametrize("goal", [0.0, 1.0, math.nan])
def test_impossible_goals_are_refused(goal):
    with pytest.raises(InputError, match="e-process: goal must lie between 0 and 1"):
        betting_e_process(np.array([0.5]), goal)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=rf"got {wrong} at 1"):
        betting_e_process(np.array([0.5, wrong]), 0.8)


def test_twenty_looks_keep_the_level_where_repeated_fixed_tests_do_not():
    rng = np.random.default_rng(2)
    rounds, looks, nightly, goal = 500, 20, 100, 0.9
    batches = rng.binomial(1, goal, (rounds, looks, nightly)).astype(float)
    # a one-sided exact test of every night's patients, and one of all patients so far
    failures = nightly - batches.sum(axis=2)
    each_night = stats.binom.sf(failures - 1, nightly, 1 - goal) <= 0.05
    so_far = np.arange(1, looks + 1) * nightly
    all_so_far = stats.binom.sf(failures.cumsum(axis=1) - 1, so_far, 1 - goal) <= 0.05
    by_betting = [betting_e_process(row.ravel(), goal).max() >= 20 for row in batches]
    assert np.mean(by_betting) <= 0.05
    assert each_night.any(axis=1).mean() > 0.5
    assert all_so_far.any(axis=1).mean() > 0.15


def test_a_drift_from_10_to_14_percent_failures_is_found():
    rng = np.random.default_rng(3)
    chances = np.repeat([0.90, 0.86], [200, 1800])
    found = [betting_e_process(right(rng, chances), 0.9).max() >= 20 for _ in range(100)]
    assert np.mean(found) >= 0.95


def test_means_need_not_be_of_zeros_and_ones():
    rng = np.random.default_rng(4)
    assert betting_e_process(rng.beta(8, 2, 600), 0.8).max() < 20
    assert betting_e_process(rng.beta(7.5, 2.5, 600), 0.8)[-1] > 20
