import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from robustbench_med.statistics.bootstrap import draw_patients, generator
from robustbench_med.statistics.estimate import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    OBUCHOWSKI,
    RAO_SCOTT,
    WILSON,
)
from robustbench_med.statistics.proportions import wilson
from robustbench_med.statistics.readings import readings_of
from robustbench_med.statistics.samples import Drawn, sample
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores

PATIENTS = np.repeat(np.arange(20), 2)
DRAWN = Drawn(PATIENTS, draw_patients(20, generator(0)))
PROBES = (ProbeEntry("clean", "clean", 0.0), ProbeEntry("gamma@1", "shift", 1.0))
RNG = np.random.default_rng(0)


def scores(metric, values, failed=None, asked=None, limits=None):
    failed = np.zeros(values.shape, dtype=bool) if failed is None else failed
    asked = np.ones(values.shape, dtype=bool) if asked is None else asked
    meaning = Meaning("higher", "mean", limits)
    return Scores(metric, meaning, PROBES, values, asked, failed)


CORRECT = scores("correct", RNG.integers(0, 2, size=(40, 2)).astype(float))
PSNR = scores("psnr", RNG.normal(30, 2, size=(40, 2)))
ALL = np.ones(40, dtype=bool)


def of(*found, drawn=DRAWN, chosen=ALL):
    return sample(readings_of(found), drawn, chosen)


def estimate_of(values, who, seed=0, limits=None):
    """The estimate of one metric under one probe."""
    values, who = np.array(values, dtype=float)[:, None], np.asarray(who)
    one = replace(scores("m", values, limits=limits), probes=PROBES[:1])
    drawn = Drawn(who, draw_patients(int(who.max()) + 1, generator(seed)))
    return of(one, drawn=drawn, chosen=np.ones(len(who), dtype=bool)).estimates[0]


def test_columns_run_over_metrics_and_their_probes():
    found = of(CORRECT, PSNR)
    values = [estimate.value for estimate in found.estimates]
    expected = [*CORRECT.values.mean(axis=0), *PSNR.values.mean(axis=0)]
    assert values == pytest.approx(expected)
    assert [e.method for e in found.estimates] == [RAO_SCOTT, RAO_SCOTT, BOOTSTRAP, BOOTSTRAP]
    assert found.replicates.shift.shape == (2000, 4)
    assert found.portion.influence.shape == (20, 4)


def test_one_case_per_patient_is_seen_in_the_chosen_cases():
    first = np.arange(40) % 2 == 0
    found = of(CORRECT, chosen=first)
    assert [estimate.method for estimate in found.estimates] == [WILSON, WILSON]
    assert found.portion.patients.tolist() == [20, 20]
    expected = wilson(CORRECT.values[first, 0].sum(), 20)
    assert (found.estimates[0].low, found.estimates[0].high) == expected


def test_a_group_is_resampled_with_the_draws_of_its_own_patients():
    some = PATIENTS >= 12
    found = of(PSNR, chosen=some)
    assert DRAWN.of(some).shape == (2000, 8)
    np.testing.assert_array_equal(DRAWN.of(some), DRAWN.table[:, 12:])
    assert DRAWN.of(ALL) is DRAWN.table
    means = PSNR.values.reshape(20, 2, 2).mean(axis=1)[12:]
    for draw in range(20):
        drawn = np.repeat(means[:, 1], DRAWN.table[draw, 12:]).mean() - means[:, 1].mean()
        assert found.replicates.shift[draw, 1] == pytest.approx(drawn, abs=1e-4)


def test_cases_are_either_defined_undefined_or_failed():
    values, failed, asked = PSNR.values.copy(), np.zeros((40, 2), bool), np.ones((40, 2), bool)
    values[:7, 0] = np.nan
    failed[:3, 0] = True
    values[10:15, 1] = np.nan
    asked[10:12, 1] = False
    found = of(scores("psnr", values, failed, asked))
    assert found.counts.tolist() == [[33, 35], [4, 3], [3, 0], [0, 0]]


def test_penalised_cases_are_counted_among_those_with_a_value():
    penalised = np.zeros((40, 2), bool)
    penalised[[3, 20, 21], [0, 1, 1]] = True
    some = replace(PSNR, penalised=penalised)
    assert of(some).counts[[0, 3]].tolist() == [[40, 40], [1, 2]]
    assert of(some, chosen=PATIENTS >= 10).counts[[0, 3]].tolist() == [[20, 20], [0, 2]]


def test_cases_that_a_rate_is_not_about_are_no_loss():
    values, among = CORRECT.values.copy(), np.ones((40, 2), bool)
    values[:6, 0] = np.nan
    among[:4, 0] = False
    assert of(replace(scores("rate", values), among=among)).counts[1].tolist() == [2, 0]


def test_adding_a_metric_moves_no_other_interval():
    alone = of(PSNR).estimates
    beside = of(CORRECT, PSNR).estimates[2:]
    for one, other in zip(alone, beside, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-5)


def test_a_mean_is_a_ratio_of_sums_with_studentised_limits():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 5, 25)
    who = np.repeat(np.arange(25), sizes)
    values = rng.gamma(2, size=len(who))
    found = estimate_of(values, who, seed=3)
    influence = np.bincount(who, values - values.mean()) / len(values)
    t = []
    for counts in draw_patients(25, generator(3)):
        drawn = np.repeat(influence, counts)
        t.append(drawn.mean() / (drawn.std(ddof=1) / 5))
    t = np.sort(t)
    error = influence.std(ddof=1) * 5
    expected = values.mean() - t[1950] * error, values.mean() - t[49] * error
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-4)
    assert found.method == BOOTSTRAP
    assert math.isnan(found.trials)


def test_the_interval_of_a_mean_is_about_students():
    values = np.random.default_rng(2).normal(3, 1, 60)
    found = estimate_of(values, np.arange(60))
    expected = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
    width = expected[1] - expected[0]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.06 * width)


@pytest.mark.parametrize("values", [[0.3 + 0.0, 0.1 + 0.2, 0.3], [5, 5], [5]])
def test_equal_patients_get_no_interval(values):
    found = estimate_of(values, np.arange(len(values)))
    assert found.value == pytest.approx(values[0])
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.method == ""


def test_equal_patients_with_a_share_get_exact_limits():
    found = estimate_of([1, 0] * 15, np.repeat(np.arange(15), 2))
    assert (found.value, found.method, found.trials) == (0.5, CLOPPER_PEARSON, 15)
    assert found.low > 0
    assert found.high < 1


def test_an_infinite_mean_gets_no_interval():
    found = estimate_of([np.inf, 1.0, 2.0, 3.0], np.arange(4))
    assert (found.value, found.method) == (math.inf, "")
    assert math.isnan(found.low)


def test_nothing_defined_is_nan_without_patients():
    nothing = scores("psnr", np.full((40, 2), np.nan))
    found = of(nothing)
    assert found.portion.patients.tolist() == [0, 0]
    assert found.counts.tolist() == [[0, 0], [40, 40], [0, 0], [0, 0]]
    for estimate in found.estimates:
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert estimate.method == ""


def test_limits_are_cut_to_where_values_lie():
    values = RNG.gamma(2, size=16)
    free = estimate_of(values, np.arange(16))
    for limits in ((free.low + 0.1, 9.0), (0.0, free.high - 0.1)):
        cut = estimate_of(values, np.arange(16), limits=limits)
        assert (cut.low, cut.high) == (max(free.low, limits[0]), min(free.high, limits[1]))
        assert cut.value == free.value


def test_an_area_under_the_curve_brings_its_own_interval():
    given = RNG.beta(3, 2, (40, 2))
    truth = np.tile([1.0, 0.0], 20)
    found = replace(
        scores("finding", given), truth=truth, meaning=Meaning("higher", reads="detection")
    )
    made = of(found)
    readings = readings_of([found])
    place = [reading.metric for reading in readings].index("finding.auc")
    assert [e.method for e in made.estimates[2 * place : 2 * place + 2]] == [OBUCHOWSKI] * 2
    assert [e.method for e in made.estimates[:2]] == [BOOTSTRAP] * 2
