import math

import numpy as np
import pytest
from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.bca import bca
from robustbench_med.statistics.linear import ratio


def scipy_bca(sample, statistic, level):
    return stats.bootstrap(
        (sample,),
        statistic,
        n_resamples=999,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(7),
    )


def without_each(sample, statistic):
    return np.array([statistic(np.delete(sample, i)) for i in range(len(sample))])


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("statistic", [np.mean, np.std, stats.trim_mean])
def test_bca_equals_scipy_given_the_same_resamples(statistic, level):
    sample = np.random.default_rng(1).exponential(size=25)
    compute = (lambda a, axis=-1: statistic(a, 0.1, axis=axis)) if (
        statistic is stats.trim_mean
    ) else statistic  # fmt: skip
    oracle = scipy_bca(sample, compute, level)
    draws, left = oracle.bootstrap_distribution, without_each(sample, compute)
    found = bca(draws, float(compute(sample)), left, level)
    assert found == pytest.approx(tuple(oracle.confidence_interval), abs=1e-10)


def test_resamples_equal_to_the_value_count_half_as_in_scipy():
    sample = np.repeat([0.0, 1.0], [6, 14])
    oracle = scipy_bca(sample, np.mean, 0.95)
    draws = oracle.bootstrap_distribution
    assert (draws == sample.mean()).sum() > 50
    found = bca(draws, sample.mean(), without_each(sample, np.mean))
    assert found == pytest.approx(tuple(oracle.confidence_interval), abs=1e-10)


def test_undefined_resamples_are_left_out():
    rng = np.random.default_rng(2)
    draws, left = rng.normal(size=400), rng.normal(size=30)
    padded = np.concatenate([draws, np.full(50, math.nan)])
    assert bca(padded, 0.1, left) == bca(draws, 0.1, left)


def test_influences_serve_for_the_jackknife_of_a_linear_estimate():
    rng = np.random.default_rng(3)
    values = rng.exponential(size=60)
    linear = ratio(values, np.ones(60))
    draws = rng.choice(values, (800, 60)).mean(axis=1)
    by_influence = bca(draws, linear.value, linear.value - linear.influence)
    assert by_influence == pytest.approx(bca(draws, linear.value, without_each(values, np.mean)))


def test_where_bca_cannot_be_there_are_no_limits():
    draws, left = np.linspace(0, 1, 101), np.linspace(-1, 2, 20) ** 3
    nowhere = (math.nan, math.nan)
    cases = [
        (draws, 2.0, left),
        (draws, -1.0, left),
        (draws, 0.5, np.ones(20)),
        (np.full(9, math.nan), 0.5, left),
        (np.array([0.0, math.inf, math.inf, math.inf]), 1.0, left),
    ]
    for replicates, value, jackknife in cases:
        assert bca(replicates, value, jackknife) == pytest.approx(nowhere, nan_ok=True)


def test_a_correction_beyond_all_resamples_gives_no_limits():
    draws, left = np.append(np.zeros(99), 1.0), np.append(np.zeros(9), -50.0)
    assert np.isfinite(bca(draws, 0.5, left)).all()
    assert np.isnan(bca(draws, 0.5, left, 1 - 1e-8)).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_impossible_levels_are_refused(level):
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        bca(np.arange(99.0), 50.0, np.arange(9.0), level)


def test_limits_of_a_skewed_mean_miss_less_than_percentiles():
    rng = np.random.default_rng(8)
    rounds, patients, ones = 800, 20, np.ones(20)
    missed = dict.fromkeys(["bca", "percentile"], np.zeros(2))
    for _ in range(rounds):
        values = rng.exponential(size=patients)
        linear = ratio(values, ones)
        counts = rng.multinomial(patients, ones / patients, size=399)
        means = counts @ values / patients
        limits = {
            "bca": bca(means, linear.value, linear.value - linear.influence),
            "percentile": tuple(np.quantile(means, [0.025, 0.975])),
        }
        for name, (low, high) in limits.items():
            missed[name] = missed[name] + [low > 1, high < 1]
    assert missed["bca"].sum() < missed["percentile"].sum() + 0.01 * rounds
    # the truth lies above the limits too often where the skew is not allowed for
    above = {name: counts[1] for name, counts in missed.items()}
    assert above["bca"] < above["percentile"]
