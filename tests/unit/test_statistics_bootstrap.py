import numpy as np
import pytest
from scipy import stats

from robustbench_med.statistics import bootstrap
from robustbench_med.statistics.bootstrap import (
    Replicates,
    draw_patients,
    generator,
    replicate,
)


def influence_of(values):
    return (values - values.mean(axis=0)) / len(values)


def everyone(influence):
    return np.ones(influence.shape, dtype=bool)


def test_every_resample_draws_as_many_patients_as_there_are():
    counts = draw_patients(17, generator(0), 200)
    assert counts.shape == (200, 17)
    assert counts.dtype == np.uint8
    assert (counts.sum(axis=1) == 17).all()


def test_patients_are_drawn_with_multinomial_moments():
    counts = draw_patients(8, generator(3), 40_000)
    covariance = np.cov(counts.T)
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.02)
    assert covariance == pytest.approx(np.eye(8) - 1 / 8, abs=0.03)


def test_blocks_change_neither_draws_nor_replicates(monkeypatch):
    values = influence_of(np.random.default_rng(1).normal(size=(13, 2)))
    table = draw_patients(13, generator(5), 100)
    whole = replicate(table, values, everyone(values))
    monkeypatch.setattr(bootstrap, "BLOCK_CELLS", 13 * 7)
    assert (draw_patients(13, generator(5), 100) == table).all()
    parts = replicate(table, values, everyone(values))
    np.testing.assert_allclose(parts.shift, whole.shift, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-5)


def test_replicates_equal_a_plain_loop_over_the_same_draws():
    rng = np.random.default_rng(1)
    patients, width = 20, 4
    held = rng.random((patients, width)) < 0.8
    influence = np.where(held, rng.normal(size=(patients, width)) * [1e-6, 1, 50, 1e6], 0.0)
    table = draw_patients(patients, generator(9), 60)
    found = replicate(table, influence, held)
    for draw, counts in enumerate(table):
        picked = np.repeat(np.arange(patients), counts)
        for column in range(width):
            drawn = influence[picked[held[picked, column]], column]
            patients_held = held[:, column].sum()
            shift = patients_held * drawn.mean()
            variance = patients_held**2 * drawn.var(ddof=1) / len(drawn)
            size = np.sqrt(variance)
            assert found.shift[draw, column] == pytest.approx(shift, rel=1e-4, abs=1e-5 * size)
            assert found.variance[draw, column] == pytest.approx(variance, rel=1e-4)


def test_a_resampled_mean_is_the_mean_of_the_patients_drawn():
    values = np.random.default_rng(2).gamma(2.0, size=(30, 1))
    table = draw_patients(30, generator(4), 50)
    found = replicate(table, influence_of(values), everyone(values))
    for draw, counts in enumerate(table):
        drawn = np.repeat(values[:, 0], counts)
        assert found.shift[draw, 0] == pytest.approx(drawn.mean() - values.mean(), abs=1e-6)
        assert found.variance[draw, 0] == pytest.approx(drawn.var(ddof=1) / 30, rel=1e-5)


def test_a_resampled_ratio_is_right_to_first_order():
    rng = np.random.default_rng(3)
    below = rng.integers(1, 5, size=4000).astype(float)
    above = below * rng.normal(3, 1, size=4000)
    ratio = above.sum() / below.sum()
    influence = ((above - ratio * below) / below.sum())[:, None]
    table = draw_patients(4000, generator(0), 200)
    found = replicate(table, influence, everyone(influence)).shift[:, 0]
    exact = table @ above / (table @ below) - ratio
    assert np.abs(found - exact).max() < 0.05 * exact.std()


def test_columns_share_their_draws():
    values = np.random.default_rng(0).normal(size=(30, 1))
    both = influence_of(np.hstack([values, 5 - 2 * values]))
    found = replicate(draw_patients(30, generator(0), 100), both, everyone(both))
    assert found.shift[:, 1] == pytest.approx(-2 * found.shift[:, 0], abs=1e-6)


def test_quantiles_agree_with_scipy_within_simulation_error():
    values = np.random.default_rng(4).gamma(2.0, size=(80, 1))
    table = draw_patients(80, generator(0), 4000)
    draws = replicate(table, influence_of(values), everyone(values)).shift[:, 0]
    oracle = stats.bootstrap(
        (values[:, 0],),
        np.mean,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    limits = values.mean() + np.quantile(draws, [0.025, 0.975])
    assert limits == pytest.approx(oracle.confidence_interval, abs=0.06 * width)
    assert draws.std() == pytest.approx(oracle.standard_error, rel=0.05)


def test_resamples_of_too_few_patients_with_a_value_say_nothing_wrong():
    held = np.array([[True], [False], [True]])
    influence = np.array([[-1.0], [0.0], [1.0]])
    table = np.array([[0, 3, 0], [1, 2, 0], [2, 1, 0], [1, 1, 1]], dtype=np.uint8)
    found = replicate(table, influence, held)
    # nobody; one patient; the same patient twice; both, as far apart as they are
    assert found.shift[:, 0] == pytest.approx([0, -2, -2, 0], rel=1e-6)
    assert found.variance[:, 0] == pytest.approx([0, 0, 0, 4], rel=1e-6)
    assert found.studentised()[:, 0].tolist() == [0, -np.inf, -np.inf, 0]


def test_patients_who_agree_up_to_rounding_have_no_variance():
    values = np.array([0.1 + 0.2] * 9 + [0.3, 5.0])[:, None]
    table = np.array([[2] * 5 + [1, 0, 0, 0, 0, 0], [1] * 11], dtype=np.uint8)
    found = replicate(table, influence_of(values), everyone(values))
    assert found.variance[0, 0] == 0
    assert found.variance[1, 0] > 0


def test_a_column_without_spread_leaves_others_as_they_are():
    values = np.random.default_rng(0).normal(size=(12, 1))
    table = draw_patients(12, generator(1), 40)
    influence = influence_of(values)
    alone = replicate(table, influence, everyone(values))
    beside = replicate(table, np.hstack([np.zeros((12, 1)), influence]), np.ones((12, 2), bool))
    np.testing.assert_allclose(beside.shift[:, 1], alone.shift[:, 0], rtol=1e-5, atol=1e-7)
    assert (beside.studentised()[:, 0] == 0).all()


def test_estimates_of_different_patients_differ_with_both_their_variances():
    first = Replicates(np.array([[3.0, 0.0]], dtype="f4"), np.array([[9.0, 0.0]], dtype="f4"))
    other = Replicates(np.array([[-1.0, 0.0]], dtype="f4"), np.array([[16.0, 0.0]], dtype="f4"))
    found = first.against(other)
    assert found.shift.tolist() == [[4.0, 0.0]]
    assert found.variance.tolist() == [[25.0, 0.0]]
    assert found.studentised() == pytest.approx(np.array([[0.8, 0.0]]))


def test_streams_depend_on_seed_and_name_only():
    first = generator(1, "sex").integers(1000, size=5)
    assert (first == generator(1, "sex").integers(1000, size=5)).all()
    assert (first != generator(1, "age").integers(1000, size=5)).any()
    assert (first != generator(2, "sex").integers(1000, size=5)).any()
    assert (generator(1).random(3) == np.random.default_rng(1).random(3)).all()
