import numpy as np
import pytest
from scipy import stats

from robustbench_med.statistics import bootstrap
from robustbench_med.statistics.bootstrap import generator, percentile, resample, weights


def test_every_resample_draws_as_many_patients_as_there_are():
    counts = np.concatenate(list(weights(17, generator(0), 200)))
    assert counts.shape == (200, 17)
    assert (counts.sum(axis=1) == 17).all()
    assert (counts >= 0).all()


def test_patients_are_drawn_with_multinomial_moments():
    counts = np.concatenate(list(weights(8, generator(3), 40_000)))
    covariance = np.cov(counts.T)
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.02)
    assert covariance == pytest.approx(np.eye(8) - 1 / 8, abs=0.03)


def test_blocks_do_not_change_the_draws(monkeypatch):
    whole = np.concatenate(list(weights(13, generator(5), 100)))
    monkeypatch.setattr(bootstrap, "BLOCK_CELLS", 13 * 7)
    blocks = list(weights(13, generator(5), 100))
    assert max(len(block) for block in blocks) == 7
    assert (np.concatenate(blocks) == whole).all()


def test_ratios_equal_a_plain_loop_over_the_same_draws():
    rng = np.random.default_rng(1)
    above, below = rng.normal(size=(20, 3)), rng.integers(0, 4, size=(20, 3)).astype(float)
    found = resample(above, below, generator(9), 50)
    for draw, counts in enumerate(np.concatenate(list(weights(20, generator(9), 50)))):
        picked = np.repeat(np.arange(20), counts.astype(int))
        for column in range(3):
            expected = above[picked, column].sum() / below[picked, column].sum()
            assert found[draw, column] == pytest.approx(expected, rel=1e-12)


def test_columns_share_their_draws():
    values = np.random.default_rng(0).normal(size=(30, 1))
    ones = np.ones((30, 2))
    found = resample(np.hstack([values, values + 5]), ones, generator(0), 100)
    assert found[:, 1] - found[:, 0] == pytest.approx(np.full(100, 5.0))


def test_percentiles_agree_with_scipy_within_simulation_error():
    values = np.random.default_rng(4).gamma(2.0, size=80)
    draws = resample(values[:, None], np.ones((80, 1)), generator(0), 4000)[:, 0]
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    )
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert percentile(draws) == pytest.approx(oracle.confidence_interval, abs=0.06 * width)
    assert draws.std() == pytest.approx(oracle.standard_error, rel=0.05)


def test_a_resample_without_any_defined_value_is_undefined_and_left_out():
    above, below = np.array([[2.0], [0.0], [4.0]]), np.array([[1.0], [0.0], [1.0]])
    draws = resample(above, below, generator(0), 500)[:, 0]
    # all three draws hit the patient without a value: (1/3)^3 of 500, about 19
    assert 5 <= np.isnan(draws).sum() <= 40
    assert percentile(draws) == (2.0, 4.0)


def test_an_infinite_value_does_not_spoil_other_columns():
    above = np.array([[np.inf, 1.0], [2.0, 3.0]])
    assert np.isfinite(resample(above, np.ones((2, 2)), generator(0), 20)).all()


def test_streams_depend_on_seed_and_name_only():
    first = generator(1, "sex").integers(1000, size=5)
    assert (first == generator(1, "sex").integers(1000, size=5)).all()
    assert (first != generator(1, "age").integers(1000, size=5)).any()
    assert (first != generator(2, "sex").integers(1000, size=5)).any()
    assert (generator(1).random(3) == np.random.default_rng(1).random(3)).all()
