import math

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from robustbench_med.statistics.bootstrap import generator, percentile, resample
from robustbench_med.statistics.comparison import NEWCOMBE, OWN_LIMITS, difference
from robustbench_med.statistics.estimate import BOOTSTRAP, Estimate, of_mean, of_share

WHATEVER = np.array([0.0, 1.0])


def share(successes, n, cases=1):
    counted = np.repeat([float(cases), 0.0], [successes, n - successes])
    return of_share(counted, np.full(n, float(cases)))


@pytest.mark.parametrize(
    "counts", [(56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20), (0, 10, 0, 10), (29, 29, 11, 12)]
)
def test_newcombe_equals_statsmodels(counts):
    a, n, b, m = counts
    found = difference(share(a, n), share(b, m), WHATEVER, WHATEVER)
    oracle = confint_proportions_2indep(a, n, b, m, method="newcomb", compare="diff")
    assert found.method == NEWCOMBE
    assert found.value == pytest.approx(a / n - b / m)
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-10)


def test_other_values_get_the_bootstrap_of_the_difference():
    rng = np.random.default_rng(0)
    draws, means = [], []
    for seed, shift in enumerate([1.0, 0.0]):
        values, ones = rng.normal(shift, size=40), np.ones(40)
        draws.append(resample(values[:, None], ones[:, None], generator(seed), 400)[:, 0])
        means.append(of_mean(values, ones, draws[-1]))
    found = difference(*means, *draws)
    assert found.method == BOOTSTRAP
    assert found.value == means[0].value - means[1].value
    assert (found.low, found.high) == percentile(draws[0] - draws[1])


def test_a_side_without_spread_brings_its_own_limits_not_zero_width():
    still, moving = share(12, 12, cases=4), share(20, 40, cases=4)
    draws = np.random.default_rng(0).normal(0.5, 0.08, 300)
    found = difference(still, moving, np.ones(300), draws)
    assert found.method == OWN_LIMITS
    below = math.hypot(1 - still.low, moving.high - 0.5)
    above = math.hypot(0.0, 0.5 - moving.low)
    assert (found.low, found.high) == pytest.approx((0.5 - below, 0.5 + above))


def test_no_interval_on_a_side_leaves_the_difference_without_one():
    known = Estimate(0.5, 0.4, 0.6, BOOTSTRAP, 50, 0)
    bare = Estimate(0.7, math.nan, math.nan, "", 50, 0)
    for first, second in ((known, bare), (bare, known)):
        found = difference(first, second, WHATEVER, WHATEVER)
        assert abs(found.value) == pytest.approx(0.2)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.method == ""


def test_swapping_the_sides_mirrors_the_difference():
    first, second = share(9, 10), share(30, 60)
    one, other = (
        difference(*pair, WHATEVER, WHATEVER) for pair in ((first, second), (second, first))
    )
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
