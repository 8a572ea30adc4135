import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import brentq
from scipy.special import expit

from robustbench_med.statistics.calibration import (
    LEAST,
    calibration,
    log_odds,
    observed_expected,
)

PATIENTS = 80


def cases(seed, shift=0.4, stretch=0.6, patients=PATIENTS):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 8, patients))
    odds = rng.normal(size=len(patient)) + rng.normal(size=patients)[patient]
    return expit(odds), rng.random(len(patient)) < expit(shift + stretch * odds), patient


def statsmodels(design, offset, positive, patient):
    """Coefficients and their clustered covariance, with the factor I / (I - 1) alone."""
    model = sm.GLM(positive.astype(float), design, family=sm.families.Binomial(), offset=offset)
    groups = {"groups": patient, "use_correction": False}
    fitted = model.fit(cov_type="cluster", cov_kwds=groups, tol=1e-14, maxiter=200)
    count = len(np.unique(patient))
    return fitted.params, fitted.cov_params() * count / (count - 1)


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.4, 0.6), (-2.0, 2.5)])
def test_intercept_slope_and_their_variances_equal_statsmodels(shift, stretch):
    score, positive, patient = cases(1, shift, stretch)
    intercept, slope = calibration(score, positive, patient, PATIENTS)
    odds, one = log_odds(score), np.ones(len(score))
    known, spread = statsmodels(one[:, None], odds, positive, patient)
    assert intercept.value == pytest.approx(known[0], abs=1e-8)
    assert intercept.variance == pytest.approx(spread[0, 0], rel=1e-8)
    known, spread = statsmodels(np.column_stack([one, odds]), None, positive, patient)
    assert slope.value == pytest.approx(known[1], abs=1e-8)
    assert slope.variance == pytest.approx(spread[1, 1], rel=1e-8)


def test_influences_sum_to_nothing_and_skip_patients_without_cases():
    score, positive, patient = cases(2)
    for found in calibration(score, positive, patient + 3, PATIENTS + 7):
        assert found.patients == PATIENTS
        assert found.influence.sum() == pytest.approx(0, abs=1e-10)
        assert not found.influence[:3].any()
        assert not found.influence[-4:].any()


def test_influences_foretell_what_leaving_a_patient_out_does():
    score, positive, patient = cases(3, patients=150)
    found = calibration(score, positive, patient, 150)
    kept = [patient != one for one in range(150)]
    without = [calibration(score[part], positive[part], patient[part], 150) for part in kept]
    for place in range(2):
        change = found[place].value - np.array([each[place].value for each in without])
        assert np.corrcoef(change, found[place].influence)[0, 1] > 0.99


def test_scores_shifted_and_stretched_by_known_amounts_show_both():
    score, positive, patient = cases(4, 0.0, 1.0, patients=4000)
    stretched = expit(2 * log_odds(score))
    assert calibration(stretched, positive, patient, 4000)[1].value == pytest.approx(0.5, abs=0.03)
    shifted = expit(log_odds(score) - 0.7)
    assert calibration(shifted, positive, patient, 4000)[0].value == pytest.approx(0.7, abs=0.06)


def test_the_intercept_has_a_closed_form_for_equal_scores():
    positive = np.arange(40) < 10
    intercept, slope = calibration(np.full(40, 0.6), positive, np.arange(40), 40)
    assert intercept.value == pytest.approx(math.log(1 / 3) - math.log(0.6 / 0.4), abs=1e-12)
    assert math.isnan(slope.value)
    assert slope.patients == 0


@pytest.mark.parametrize("positive", [np.zeros(6, bool), np.ones(6, bool)])
def test_a_missing_class_leaves_both_undefined(positive):
    found = calibration(np.linspace(0.1, 0.9, 6), positive, np.arange(6), 6)
    assert all(math.isnan(part.value) for part in found)


@pytest.mark.parametrize("score", [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [1, 2, 3, 3, 5, 6]])
def test_classes_that_do_not_overlap_leave_the_slope_undefined(score):
    positive = np.array([False, False, False, True, True, True])
    intercept, slope = calibration(np.array(score) / 10, positive, np.arange(6), 6)
    assert math.isfinite(intercept.value)
    assert math.isnan(slope.value)


def test_barely_overlapping_classes_have_a_finite_slope_that_solves_its_equations():
    score = np.r_[np.linspace(1e-6, 0.5, 50), 0.499, np.linspace(0.51, 1 - 1e-6, 50)]
    positive, odds = np.arange(101) >= 50, log_odds(score)
    _, slope = calibration(score, positive, np.arange(101), 101)
    assert slope.value > 20

    def excess(start):
        return (positive - expit(start + slope.value * odds)).sum()

    start = brentq(excess, -5, 5, xtol=1e-14)
    residual = positive - expit(start + slope.value * odds)
    assert (residual * odds).sum() == pytest.approx(0, abs=1e-9)


def test_certain_and_wrong_scores_are_clipped_and_still_fitted():
    score = np.r_[np.zeros(30), np.ones(30)]
    positive = np.arange(60) % 3 == 0
    intercept, slope = calibration(score, positive, np.arange(60), 60)
    ends = math.log(LEAST / (1 - LEAST))
    assert slope.value == pytest.approx(0, abs=1e-8)
    share = expit(intercept.value + np.array([ends, -ends])).mean()
    assert share == pytest.approx(1 / 3, abs=1e-10)


def test_observed_over_expected_is_the_ratio_of_sums():
    score, positive, patient = cases(5)
    found = observed_expected(score, positive, patient, PATIENTS)
    assert found.value == pytest.approx(positive.sum() / score.sum(), abs=1e-12)
    assert found.patients == PATIENTS
    assert math.isnan(observed_expected(score[:0], positive[:0], patient[:0], 4).value)
