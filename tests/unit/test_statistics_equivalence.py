import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from robustbench_med.errors import InputError
from robustbench_med.statistics.equivalence import noninferior, tost, tost_p

LIMITS = [
    (-0.04, 0.02, "pass"),
    (0.01, 0.30, "pass"),
    (-0.05, 0.02, "undecided"),
    (-0.30, 0.10, "undecided"),
    (-0.30, -0.05, "undecided"),
    (-0.30, -0.06, "fail"),
    (math.nan, math.nan, "undecided"),
]


@pytest.mark.parametrize(("low", "high", "answer"), LIMITS)
def test_noninferiority_where_more_is_better_and_mirrored_where_less_is(low, high, answer):
    assert noninferior(low, high, 0.05, "higher") == answer
    assert noninferior(-high, -low, 0.05, "lower") == answer


@pytest.mark.parametrize("better", ["zero", "one"])
@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(-0.04, 0.04, "pass"), (-0.06, 0.04, "undecided"), (0.1, 0.2, "undecided")],
)
def test_a_value_without_a_worse_side_may_not_move_and_its_move_is_no_failure(
    low, high, answer, better
):
    assert noninferior(low, high, 0.05, better) == answer


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        ((-0.04, 0.04), "pass"),
        ((-0.05, 0.04), "undecided"),
        ((-0.04, 0.06), "undecided"),
        ((-0.2, 0.2), "undecided"),
        ((0.06, 0.2), "fail"),
        ((-0.2, -0.06), "fail"),
        ((math.nan, math.nan), "undecided"),
    ],
)
def test_equivalence_by_a_whole_interval(limits, answer):
    assert tost(limits, 0.05) == answer


@pytest.mark.parametrize("shift", [0.0, 0.01, -0.03, 0.2])
@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_tost_p_equals_statsmodels(shift, margin):
    rng = np.random.default_rng(0)
    old = rng.normal(0.85, 0.1, 40)
    new = old + rng.normal(shift, 0.05, 40)
    gap = new - old
    found = tost_p(gap.mean(), stats.sem(gap), 39, margin)
    assert found == pytest.approx(ttost_paired(new, old, -margin, margin)[0], abs=1e-10)


@pytest.mark.parametrize("difference", np.linspace(-0.2, 0.2, 9))
def test_the_p_value_is_below_5_percent_exactly_where_the_90_percent_limits_pass(difference):
    reach = 0.04 * stats.t.ppf(0.95, 25)
    passed = tost((difference - reach, difference + reach), 0.1) == "pass"
    assert (tost_p(difference, 0.04, 25, 0.1) < 0.05) == passed


def test_equivalence_is_declared_in_5_percent_of_runs_at_the_margin_itself():
    rng = np.random.default_rng(1)
    gaps = rng.normal(0.1, 0.05, (4000, 25))
    errors = gaps.std(axis=1, ddof=1) / 5
    p = [tost_p(*row, 24, 0.1) for row in zip(gaps.mean(axis=1), errors, strict=True)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_without_an_error_there_is_no_p_value():
    assert math.isnan(tost_p(0.0, 0.0, 10, 0.1))
    assert math.isnan(tost_p(0.0, math.nan, 10, 0.1))


@pytest.mark.parametrize("margin", [-0.1, math.inf, math.nan])
def test_impossible_margins_are_refused(margin):
    for judge in (
        lambda: noninferior(0.0, 0.1, margin, "higher"),
        lambda: tost((0.0, 0.1), margin),
        lambda: tost_p(0.0, 0.1, 10, margin),
    ):
        with pytest.raises(InputError, match="margin: expected a finite number"):
            judge()


def test_swapped_limits_are_refused():
    with pytest.raises(InputError, match=r"limits: expected low <= high, got 0\.2 and 0\.1"):
        noninferior(0.2, 0.1, 0.05, "higher")
