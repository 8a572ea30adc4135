import math

import numpy as np
import pytest
from scipy.optimize import brentq

from robustbench_med.statistics.bootstrap import generator
from robustbench_med.statistics.smooth_ece import (
    smooth_ece,
    smooth_ece_interval,
    smooth_ece_null,
)


def cases(seed, count, wrong=0.0):
    rng = np.random.default_rng(seed)
    score = rng.beta(0.7, 1.5, count)
    truth = (score + wrong * np.sin(2 * np.pi * score)).clip(0, 1)
    return score, rng.random(count) < truth


def direct(score, positive, points=1000):
    """The definition: every case's kernel, mirrored at both ends, at every point."""
    at = (np.arange(points)[:, None] + 0.5) / points

    def excess(width):
        images = [sign * score + 2 * turn for turn in range(-3, 4) for sign in (1, -1)]
        kernel = sum(np.exp(-np.square((at - image) / width) / 2) for image in images)
        smooth = kernel @ (positive - score) / len(score) / width / math.sqrt(2 * math.pi)
        return np.abs(smooth).mean() - width

    return brentq(excess, 1e-4, 1, xtol=1e-9)


@pytest.mark.parametrize("count", [8, 60, 250])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_it_equals_the_definition_evaluated_case_by_case(count, wrong):
    score, positive = cases(count, count, wrong)
    assert smooth_ece(score, positive) == pytest.approx(direct(score, positive), abs=2e-5)


@pytest.mark.parametrize("width", [0.3, 0.9])
def test_scores_that_are_all_equal_and_far_off_are_smoothed_to_their_distance(width):
    # Where the smoothed residual has one sign, its integral is their sum at any width.
    score = np.full(1000, 0.5)
    positive = np.arange(1000) < 500 + 500 * width
    assert smooth_ece(score, positive) == pytest.approx(width / 2, abs=1e-5)


def test_scores_at_both_ends_are_reflected_not_lost():
    score, positive = np.r_[np.zeros(50), np.ones(50)], np.r_[np.ones(50), np.ones(50)] > 0
    assert smooth_ece(score, positive) == pytest.approx(0.5, abs=1e-5)
    assert smooth_ece(score, score > 0) == pytest.approx(0, abs=1e-5)


def test_swapping_the_classes_changes_nothing():
    score, positive = cases(1, 300, 0.2)
    assert smooth_ece(1 - score, ~positive) == pytest.approx(smooth_ece(score, positive), abs=1e-5)


def test_whole_weights_are_copies():
    score, positive = cases(2, 200, 0.2)
    times = np.random.default_rng(3).integers(0, 4, 200)
    weighted = smooth_ece(score, positive, times.astype(float))
    assert weighted == pytest.approx(smooth_ece(score.repeat(times), positive.repeat(times)))


def test_without_cases_there_is_no_error():
    none = np.zeros(0)
    assert math.isnan(smooth_ece(none, none > 0))
    assert math.isnan(smooth_ece_null(none, none > 0, none.astype(int), 3, generator(0)))
    assert np.isnan(smooth_ece_interval(none, none > 0, none.astype(int), 3, generator(0))).all()


def test_one_patient_has_no_interval():
    score, positive = cases(4, 9)
    assert np.isnan(smooth_ece_interval(score, positive, np.ones(9, int), 3, generator(0))).all()


def test_the_null_is_what_calibrated_models_show():
    found = [smooth_ece(*cases(seed, 150)) for seed in range(100)]
    guess = [
        smooth_ece_null(*cases(seed, 150), np.arange(150), 150, generator(0)) for seed in (1, 2)
    ]
    assert np.mean(guess) == pytest.approx(np.mean(found), rel=0.15)


def test_cases_that_resemble_each_other_raise_the_null():
    score, positive = cases(5, 60)
    tens = (score.repeat(10), positive.repeat(10))
    once = smooth_ece_null(score, positive, np.arange(60), 60, generator(0))
    known = smooth_ece_null(*tens, np.arange(60).repeat(10), 60, generator(0))
    ignored = smooth_ece_null(*tens, np.arange(600), 600, generator(0))
    assert known == pytest.approx(once, rel=1e-4)
    assert ignored < 0.7 * known


def test_the_lower_limit_of_calibrated_scores_is_zero_whatever_the_size():
    for seed, count in enumerate((40, 200, 1000)):
        score, positive = cases(20 + seed, count)
        low, high = smooth_ece_interval(score, positive, np.arange(count), count, generator(1))
        assert low == 0
        assert smooth_ece(score, positive) < high


def test_the_interval_holds_the_error_of_scores_that_are_wrong():
    truth = smooth_ece(*cases(9, 400000, 0.25))
    covered = 0
    for seed in range(60):
        score, positive = cases(seed, 150, 0.25)
        low, high = smooth_ece_interval(score, positive, np.arange(150), 150, generator(2), 100)
        covered += low <= truth <= high
        assert low <= smooth_ece(score, positive) <= high
    assert covered >= 55


def test_the_draws_follow_from_the_generator_alone():
    given = (*cases(6, 80, 0.2), np.arange(80) // 2, 40)
    once, again, other = (smooth_ece_interval(*given, generator(seed)) for seed in (3, 3, 4))
    assert once == again != other
