import numpy as np
import pytest
from scipy import stats

from robustbench_med.statistics.bootstrap import Replicates, draw_patients, generator, replicate
from robustbench_med.statistics.studentised import deviate_of, deviates, limits, p_values


def resampled(values):
    """Means of the columns, their errors, and their replicates."""
    patients = len(values)
    influence = (values - values.mean(axis=0)) / patients
    table = draw_patients(patients, generator(3))
    errors = values.std(axis=0, ddof=1) / np.sqrt(patients)
    return values.mean(axis=0), errors, replicate(table, influence, np.ones(values.shape, bool))


def by_hand(values):
    """The same t-values, resample by resample."""
    patients = len(values)
    found = []
    for counts in draw_patients(patients, generator(3)):
        drawn = np.repeat(values, counts)
        error = drawn.std(ddof=1) / np.sqrt(patients)
        found.append((drawn.mean() - values.mean()) / error)
    return np.sort(found)


def test_limits_equal_a_direct_bootstrap_t():
    values = np.random.default_rng(0).gamma(1.5, size=25)
    t, error = by_hand(values), values.std(ddof=1) / 5
    found = limits(*resampled(values[:, None]))
    # the 50th smallest and the 50th largest of 2000: 0.025 * 2001 rounded down
    expected = values.mean() - t[1950] * error, values.mean() - t[49] * error
    assert (found[0][0], found[1][0]) == pytest.approx(expected, rel=1e-5)


def test_skewed_values_get_a_longer_arm_where_their_tail_is():
    values = np.random.default_rng(1).lognormal(0, 1, size=(40, 1))
    mean, _, _ = resampled(values)
    low, high = limits(*resampled(values))
    assert high[0] - mean[0] > 1.3 * (mean[0] - low[0])


def test_another_level_takes_other_quantiles():
    values = np.random.default_rng(0).normal(size=25)
    t, error = by_hand(values), values.std(ddof=1) / 5
    low, _ = limits(*resampled(values[:, None]), level=0.9)
    assert low[0] == pytest.approx(values.mean() - t[1900] * error, rel=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.4, 0.6])
def test_p_equals_a_direct_count(shift):
    values = np.random.default_rng(2).gamma(2, size=30)
    values += shift - values.mean()
    observed = values.mean() / (values.std(ddof=1) / np.sqrt(30))
    t = by_hand(values)
    rarer = min((t >= observed).sum(), (t <= observed).sum())
    expected = min(2 * (1 + rarer) / 2001, 1)
    if not rarer:
        expected = min(expected, 2 * stats.t.sf(abs(observed), 29))
    found = p_values(*resampled(values[:, None]), np.array([30]))
    assert found[0] == pytest.approx(expected, abs=2e-3)
    assert found[0] <= 1


def test_p_is_below_a_twentieth_just_where_the_interval_leaves_out_zero():
    values = np.random.default_rng(4).gamma(2, size=(20, 400))
    values += np.linspace(-1.2, 1.2, 400) - values.mean(axis=0)
    made = resampled(values)
    low, high = limits(*made)
    found = p_values(*made, np.full(400, 20))
    assert ((found < 0.05) == ((low > 0) | (high < 0))).all()
    assert 50 < (found < 0.05).sum() < 390


def test_beyond_all_draws_students_law_takes_over_and_never_raises_p():
    values = np.random.default_rng(5).normal([3.0, -6.0, 60.0], size=(20, 3))
    mean, error, drawn = resampled(values)
    found = p_values(mean, error, drawn, np.full(3, 20))
    tail = 2 * stats.t.sf(np.abs(mean / error), 19)
    assert (tail < 2 / 2001).all()
    assert found == pytest.approx(tail, rel=1e-12)
    low, _ = limits(mean, error, drawn)
    few = p_values(mean, error, drawn, np.full(3, 2))
    assert (few <= 2 / 2001).all()
    assert np.isfinite(low).all()


def test_values_without_spread_have_neither_limits_nor_p():
    nothing = Replicates(np.zeros((2000, 2), dtype="f4"), np.zeros((2000, 2), dtype="f4"))
    for errors in (np.zeros(2), np.full(2, np.nan)):
        assert np.isnan(limits(np.array([0.0, 3.0]), errors, nothing)).all()
    assert np.isnan(p_values(np.zeros(1), np.zeros(1), _first(nothing), np.array([5]))).all()


def _first(drawn):
    return Replicates(drawn.shift[:, :1], drawn.variance[:, :1])


@pytest.mark.parametrize(("endless", "known"), [(49, True), (50, False)])
def test_a_limit_that_would_be_infinite_is_none(endless, known):
    rng = np.random.default_rng(0)
    shift = rng.normal(size=(2000, 1)).astype("f4")
    variance = np.ones((2000, 1), dtype="f4")
    shift[:endless], variance[:endless] = 1.0, 0.0
    low, high = limits(np.zeros(1), np.ones(1), Replicates(shift, variance))
    assert np.isfinite(low[0]) == np.isfinite(high[0]) == known


def test_deviates_are_the_normal_scores_of_the_ranks():
    draws = np.random.default_rng(0).standard_cauchy((2000, 3)).astype("f4")
    found = deviates(draws)
    for column in range(3):
        expected = stats.norm.ppf((stats.rankdata(draws[:, column]) - 0.5) / 2000)
        assert found[:, column] == pytest.approx(expected, rel=1e-5)


def test_a_deviate_and_its_p_value_belong_together():
    p = np.array([1.0, 0.3173105, 0.05, 1e-12, 0.0, np.nan])
    found = deviate_of(p)
    assert found[:3] == pytest.approx([0, 1, 1.959964], abs=1e-6)
    assert 2 * stats.norm.sf(found[3]) == pytest.approx(1e-12)
    assert np.isfinite(found[4])
    assert np.isnan(found[5])
