import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from robustbench_med.statistics.comparison import (
    CLUSTERED,
    NEWCOMBE,
    NO_DIFFERENCE,
    Difference,
    by_limits,
    of_means,
)
from robustbench_med.statistics.estimate import BOOTSTRAP, CLOPPER_PEARSON, bare, of_share
from robustbench_med.statistics.proportions import score_limits

COUNTS = [
    (56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20), (0, 10, 0, 10), (29, 29, 11, 12),
    (12, 30, 20, 30), (1, 40, 8, 35), (150, 400, 220, 410),
]  # fmt: skip


def share(successes, n, cases=1):
    counted = np.repeat([float(cases), 0.0], [successes, n - successes])
    return of_share(counted, np.full(n, float(cases)))


@pytest.mark.parametrize("counts", COUNTS)
def test_newcombe_equals_statsmodels(counts):
    a, n, b, m = counts
    found = by_limits(share(a, n), share(b, m))
    oracle = confint_proportions_2indep(a, n, b, m, method="newcomb", compare="diff")
    assert found.method == NEWCOMBE
    assert found.value == pytest.approx(a / n - b / m)
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-10)


@pytest.mark.parametrize("counts", [c for c in COUNTS if c[0] / c[1] != c[2] / c[3]])
def test_the_deviate_of_p_is_the_one_at_which_the_interval_just_reaches_zero(counts):
    a, n, b, m = counts
    found = by_limits(share(a, n), share(b, m))
    assert 0 < found.p < 1
    parts = [k / t * (1 - k / t) / t for k, t in ((a, n), (b, m))]
    below = parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1)
    freedom = sum(parts) ** 2 / below if below else min(n, m) - 1
    normal = 2 * stats.norm.sf(stats.t.isf(found.p / 2, freedom))
    oracle = confint_proportions_2indep(a, n, b, m, method="newcomb", compare="diff", alpha=normal)
    assert min(abs(oracle[0]), abs(oracle[1])) < 1e-7


def test_p_is_below_a_twentieth_only_where_the_interval_leaves_out_zero():
    verdicts = set()
    for a in range(13):
        for b in range(26):
            found = by_limits(share(a, 12), share(b, 25))
            apart = found.low > 0 or found.high < 0
            assert apart or found.p >= 0.05, (a, b)
            assert not apart or found.p < 0.085, (a, b)  # Student's tail is the thicker
            verdicts.add(apart)
    assert verdicts == {True, False}


def test_the_smaller_the_gap_the_larger_is_p():
    p = [by_limits(share(a, 40), share(20, 40)).p for a in range(20, 41)]
    assert p[0] == 1.0
    assert (np.diff(p) < 0).all()


def test_p_is_never_negative_however_far_apart_the_shares_are():
    assert 0 <= by_limits(share(3000, 3000), share(0, 3000)).p < 1e-100


def test_several_cases_per_patient_use_the_effective_number_of_trials():
    rng = np.random.default_rng(0)
    cases = np.full(30, 6.0)
    first, second = (of_share(rng.binomial(6, rng.beta(2, 1, 30)).astype(float), cases)
                     for _ in range(2))  # fmt: skip
    found = by_limits(first, second)
    reach = stats.t.ppf(0.975, 29)
    (low, high), (lower, upper) = (
        score_limits(side.value, side.trials, reach) for side in (first, second)
    )
    gap = first.value - second.value
    below = math.hypot(first.value - low, upper - second.value)
    above = math.hypot(high - first.value, second.value - lower)
    assert found.method == CLUSTERED
    assert (found.low, found.high) == pytest.approx((gap - below, gap + above), abs=1e-12)


def test_a_side_without_spread_counts_each_patient_once_and_has_no_zero_width():
    still, moving = share(12, 12, cases=4), share(20, 40, cases=4)
    assert (still.method, still.trials) == (CLOPPER_PEARSON, 12)
    found = by_limits(still, moving)
    below = math.hypot(1 - score_limits(1, 12, stats.t.ppf(0.975, 11))[0], moving.high - 0.5)
    above = 0.5 - moving.low
    assert (found.low, found.high) == pytest.approx((0.5 - below, 0.5 + above))


def test_no_interval_on_a_side_leaves_the_difference_without_one():
    known = share(5, 10)
    for first, second in ((known, bare(0.7)), (bare(0.7), known)):
        found = by_limits(first, second)
        assert abs(found.value) == pytest.approx(0.2)
        assert np.isnan([found.low, found.high, found.p]).all()
        assert found.method == ""
    assert math.isnan(by_limits(known, bare(math.nan)).value)


def test_swapping_the_sides_mirrors_the_difference():
    one, other = (by_limits(*pair) for pair in [(share(9, 10), share(30, 60)),
                                                (share(30, 60), share(9, 10))])  # fmt: skip
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == other.p


def test_means_bring_their_limits_or_none():
    found = of_means(0.3, 0.1, 0.6, 0.01)
    assert found == Difference(0.3, 0.1, 0.6, BOOTSTRAP, 0.01)
    for low, high in ((math.nan, 0.6), (0.1, math.nan)):
        without = of_means(0.3, low, high, 0.01)
        assert (without.value, without.method) == (0.3, "")
        assert np.isnan([without.low, without.high, without.p]).all()


def test_the_error_is_that_of_a_normal_interval_as_wide():
    low, high = stats.norm.interval(0.95, loc=2, scale=0.7)
    assert of_means(2.0, low, high, 0.1).error == pytest.approx(0.7)
    assert math.isnan(NO_DIFFERENCE.error)
