import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from robustbench_med.statistics.comparison import CLUSTERED, NEWCOMBE
from robustbench_med.statistics.estimate import BOOTSTRAP
from robustbench_med.statistics.rest import against_rest
from robustbench_med.statistics.samples import sample
from robustbench_med.statistics.study import open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables = FIXTURE["tables"]


def gap_of(values, chosen, who=None, metrics=None):
    """The gap of the chosen cases under the clean probe, `values` by metric."""
    study = open_study(*tables({m: {"clean": v} for m, v in values.items()}, metrics, who=who))
    own = sample(study.readings, study.drawn, chosen)
    return study, own, against_rest(study.readings, study.drawn, own, chosen)


def test_the_gap_of_shares_is_newcombes():
    flags, chosen = np.repeat([1.0, 0, 1, 0], [24, 6, 40, 30]), np.arange(100) < 30
    _, _, gap = gap_of({"correct": flags}, chosen)
    (found,) = gap.differences
    oracle = confint_proportions_2indep(24, 30, 40, 70, method="newcomb")
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-10)
    assert found.method == NEWCOMBE
    assert gap.rest.estimates[0].value == 40 / 70


def test_several_cases_on_one_side_are_enough_to_count_patients():
    who = np.concatenate([np.arange(30), np.repeat(np.arange(30, 60), 2)])
    flags = np.random.default_rng(0).integers(0, 2, 90).astype(float)
    _, _, gap = gap_of({"correct": flags}, who < 30, who)
    assert gap.differences[0].method == CLUSTERED


def test_the_gap_of_means_equals_a_direct_bootstrap_t():
    rng = np.random.default_rng(1)
    values, chosen = rng.gamma(2, size=55), np.arange(55) < 20
    study, _, gap = gap_of({"nmse": values}, chosen)
    (found,) = gap.differences
    sides = [values[chosen], values[~chosen]]
    error = np.hypot(*(stats.sem(side) for side in sides))
    t = []
    for counts in study.drawn.table:
        drawn = [
            np.repeat(side, n) for side, n in zip(sides, (counts[:20], counts[20:]), strict=True)
        ]
        # scaled as if as many patients of each side had been drawn as there are
        spread = [d.var(ddof=1) / len(side) * (len(side) / len(d))
                  for d, side in zip(drawn, sides, strict=True)]  # fmt: skip
        off = [d.mean() - side.mean() for d, side in zip(drawn, sides, strict=True)]
        t.append((off[0] - off[1]) / np.sqrt(sum(spread)))
    value = sides[0].mean() - sides[1].mean()
    ordered = np.sort(t)
    assert found.value == pytest.approx(value)
    expected = value - ordered[1950] * error, value - ordered[49] * error
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-3)
    assert found.method == BOOTSTRAP
    rarer = min((ordered >= value / error).sum(), (ordered <= value / error).sum())
    assert found.p == pytest.approx(2 * (1 + rarer) / 2001, abs=2e-3)


def test_p_and_interval_agree_whatever_the_gap():
    rng = np.random.default_rng(2)
    values = rng.gamma(2, size=(40, 60))
    chosen = np.arange(60) < 25
    apart = 0
    for place, row in enumerate(values):
        row[chosen] += (place - 20) / 15
        flags = (row > 2).astype(float)
        _, _, gap = gap_of({"nmse": row, "correct": flags}, chosen)
        for found in gap.differences:
            leaves_out = found.low > 0 or found.high < 0
            assert (found.p < 0.05) == leaves_out
            apart += leaves_out
    assert 15 < apart < 65


def test_joint_draws_and_statistic_are_on_the_normal_scale():
    rng = np.random.default_rng(3)
    values, chosen = rng.lognormal(size=80), np.arange(80) % 3 == 0
    flags = (values > 1).astype(float)
    _, _, gap = gap_of({"nmse": values, "correct": flags}, chosen)
    p = [found.p for found in gap.differences]
    assert 2 * stats.norm.sf(np.abs(gap.statistic)) == pytest.approx(p)
    for column in gap.draws.T:
        scores = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
        assert np.sort(column) == pytest.approx(scores, abs=1e-4)


def test_a_group_and_its_rest_are_mirror_images():
    rng = np.random.default_rng(4)
    values, chosen = rng.lognormal(size=80), np.arange(80) % 3 == 0
    (_, _, one), (_, _, other) = (gap_of({"nmse": values}, side) for side in (chosen, ~chosen))
    first, second = one.differences[0], other.differences[0]
    assert (first.value, first.p) == (-second.value, second.p)
    assert (first.low, first.high) == pytest.approx((-second.high, -second.low), rel=1e-6)
    assert np.abs(one.statistic) == pytest.approx(np.abs(other.statistic))


@pytest.mark.parametrize(("few", "told"), [(9, False), (10, True)])
def test_nothing_is_compared_with_too_few_patients_on_either_side(few, told):
    values = np.random.default_rng(5).normal(size=60)
    for chosen in (np.arange(60) < few, np.arange(60) >= few):
        assert (gap_of({"psnr": values}, chosen)[2] is not None) == told
    twice = np.repeat(np.arange(30), 2)
    assert (gap_of({"psnr": values}, twice < few, twice)[2] is not None) == told


def test_a_side_without_an_interval_leaves_the_difference_without_one():
    values = np.concatenate([np.full(20, 31.5), np.random.default_rng(6).normal(30, 1, 20)])
    _, _, gap = gap_of({"psnr": values}, np.arange(40) < 20)
    (found,) = gap.differences
    assert found.value == pytest.approx(31.5 - values[20:].mean())
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isnan(gap.statistic).all()


def test_an_area_without_spread_is_not_compared_as_if_it_were_certain():
    rng = np.random.default_rng(9)
    truth, chosen = np.arange(90) % 2, np.arange(90) < 30
    given = np.where(chosen, 0.9, rng.beta(3, 2, 90))
    study, own, gap = gap_of(
        {"m": given, "m.true": truth}, chosen, metrics={"m": {"reads": "detection"}}
    )
    place = [reading.metric for reading, _ in study.columns].index("m.auc")
    assert own.estimates[place].value == 1.0
    assert 0.5 < own.estimates[place].low < 1
    found = gap.differences[place]
    assert found.value == pytest.approx(1 - gap.rest.estimates[place].value)
    assert np.isnan([found.low, found.high, found.p]).all()


def test_values_that_are_infinite_on_both_sides_leave_no_difference():
    values = np.random.default_rng(7).normal(30, 1, 40)
    values[[3, 30]] = np.inf
    _, _, gap = gap_of({"psnr": values}, np.arange(40) < 20)
    assert np.isnan(gap.differences[0].value)


def test_patients_with_cases_on_both_sides_are_drawn_together():
    rng = np.random.default_rng(8)
    who = np.repeat(np.arange(40), 2)
    shared = rng.normal(0, 3, 40)[who]
    values = shared + rng.normal(0, 1, 80)
    chosen = np.arange(80) % 2 == 0
    _, _, gap = gap_of({"psnr": values}, chosen, who)
    found = gap.differences[0]
    paired = stats.ttest_rel(values[chosen], values[~chosen]).confidence_interval()
    width = paired.high - paired.low
    assert found.high - found.low == pytest.approx(width, rel=0.25)
