import math

import numpy as np
import pytest

from robustbench_med.errors import InputError
from robustbench_med.statistics.operating_point import threshold_for

RATES = ("sensitivity", "specificity", "ppv", "npv")


def cases(seed=0, patients=60, digits=9):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    positive = rng.random(len(patient)) < 0.4
    score = 0.5 * rng.normal(size=patients)[patient] + rng.normal(size=len(patient)) + positive
    return (1 / (1 + np.exp(-score))).round(digits), positive, patient


def rate(name, score, positive, threshold):
    side = positive if name == "sensitivity" else ~positive
    return np.mean((score >= threshold)[side] == (name == "sensitivity"))


@pytest.mark.parametrize("digits", [9, 1])
@pytest.mark.parametrize("goal", [0.01, 0.5, 0.7, 0.9, 1.0])
def test_the_threshold_is_the_highest_that_keeps_the_sensitivity(goal, digits):
    score, positive, patient = cases(1, digits=digits)
    found = threshold_for(score, positive, patient, sensitivity=goal)
    assert rate("sensitivity", score, positive, found.threshold) >= goal
    assert rate("sensitivity", score, positive, np.nextafter(found.threshold, 2)) < goal


@pytest.mark.parametrize("digits", [9, 1])
@pytest.mark.parametrize("goal", [0.01, 0.5, 0.7, 0.9, 1.0])
def test_the_threshold_is_the_lowest_that_keeps_the_specificity(goal, digits):
    score, positive, patient = cases(2, digits=digits)
    found = threshold_for(score, positive, patient, specificity=goal)
    assert rate("specificity", score, positive, found.threshold) >= goal
    assert rate("specificity", score, positive, np.nextafter(found.threshold, -1)) < goal


def test_a_share_of_whole_cases_is_reached_exactly_whatever_its_rounding():
    # 0.7 of 10 cases is 7, though 0.7 * 10 is a little more in floating point.
    score, positive = np.arange(10.0), np.ones(10, bool)
    assert threshold_for(score, positive, np.arange(10), sensitivity=0.7).threshold == 3


def test_scores_of_single_precision_keep_their_specificity():
    score, positive, patient = cases(3)
    single = score.astype(np.float32)
    found = threshold_for(single, positive, patient, specificity=0.9)
    assert rate("specificity", single, positive, found.threshold) >= 0.9


def test_the_point_says_its_rule_and_what_it_rests_on():
    score, positive, patient = cases(4)
    found = threshold_for(score, positive, patient, specificity=0.85)
    assert found.rule == "specificity >= 0.85"
    assert found.patients == 60
    assert found.positives == positive.sum()
    assert found.low <= found.threshold <= found.high


def test_ids_of_patients_do_as_well_as_positions_and_the_seed_is_fixed():
    score, positive, patient = cases(5)
    ids = np.array([f"p{one:03}" for one in patient])
    found = threshold_for(score, positive, patient, sensitivity=0.9)
    assert threshold_for(score, positive, ids, sensitivity=0.9) == found


def test_copies_of_the_cases_do_not_narrow_the_interval():
    score, positive, patient = cases(6)
    once = threshold_for(score, positive, patient, sensitivity=0.8)
    tens = [np.repeat(part, 10) for part in (score, positive, patient)]
    assert threshold_for(*tens, sensitivity=0.8).low == pytest.approx(once.low, abs=0.02)
    apart = threshold_for(*tens[:2], np.arange(len(tens[0])), sensitivity=0.8)
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_the_interval_holds_the_true_quantile():
    rng, covered = np.random.default_rng(7), 0
    for _ in range(100):
        score = rng.random(80)
        point = threshold_for(score, np.ones(80, bool), np.arange(80), sensitivity=0.8)
        covered += point.low <= 0.2 <= point.high
    assert 88 <= covered <= 100


def test_one_patient_alone_has_a_threshold_without_limits():
    found = threshold_for(
        np.array([0.2, 0.4]), np.array([True, False]), np.array([0, 1]), sensitivity=1
    )
    assert found.threshold == 0.2
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("positive", "goals", "message"),
    [
        ([0, 0], {"sensitivity": 0.9}, "no case has the class"),
        ([1, 1], {"specificity": 0.9}, "every case has the class"),
        ([0, 1], {}, "expected a sensitivity or a specificity to keep, got neither"),
        ([0, 1], {"sensitivity": 0.9, "specificity": 0.9}, "got both"),
        ([0, 1], {"sensitivity": 0.0}, "sensitivity must be above 0 and at most 1, got 0"),
        ([0, 1], {"specificity": 1.5}, "specificity must be above 0 and at most 1, got 1.5"),
    ],
)
def test_impossible_questions_are_refused(positive, goals, message):
    with pytest.raises(InputError, match=message):
        threshold_for(np.array([0.1, 0.2]), np.array(positive, bool), np.arange(2), **goals)
