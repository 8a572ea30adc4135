import numpy as np
import pytest
from sklearn.metrics import auc as area_under
from sklearn.metrics import roc_auc_score, roc_curve

from robustbench_med.statistics.roc import roc_points


def cases(seed, count, digits):
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.3
    return (rng.normal(size=count) + 1.5 * positive).round(digits), positive


@pytest.mark.parametrize(("count", "digits"), [(30, 9), (300, 1), (500, 9)])
def test_without_thinning_the_points_are_scikit_learns_corners(count, digits):
    score, positive = cases(count, count, digits)
    across, up = roc_points(score, positive, 10**6)
    oracle = roc_curve(positive, score, drop_intermediate=False)
    assert set(zip(across, up, strict=True)) <= set(zip(oracle[0], oracle[1], strict=True))
    assert np.interp(oracle[0] + oracle[1], across + up, up) == pytest.approx(oracle[1], abs=1e-10)
    assert area_under(across, up) == pytest.approx(roc_auc_score(positive, score), abs=1e-10)


@pytest.mark.parametrize("most", [2, 10, 200])
def test_thinned_points_lie_on_the_curve_and_close_to_every_other_point(most):
    score, positive = cases(1, 20000, 9)
    across, up = roc_points(score, positive, most)
    whole = roc_points(score, positive, 10**6)
    assert len(across) <= most
    assert set(zip(across, up, strict=True)) <= set(zip(*whole, strict=True))
    gaps = np.abs((whole[0] + whole[1])[:, None] - (across + up)).min(axis=1)
    assert gaps.max() <= 2 / (most - 1) + 1e-12


def test_two_hundred_points_change_the_area_invisibly():
    score, positive = cases(2, 50000, 9)
    across, up = roc_points(score, positive)
    assert area_under(across, up) == pytest.approx(roc_auc_score(positive, score), abs=2e-4)


@pytest.mark.parametrize("most", [2, 7, 200])
def test_both_ends_are_exact_and_nothing_falls(most):
    for across, up in (
        roc_points(*cases(3, 997, 2), most),
        roc_points(np.full(9, 0.1), np.arange(9) < 4, most),
    ):
        assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
        assert (np.diff(across) >= 0).all()
        assert (np.diff(up) >= 0).all()


def test_perfect_order_turns_once():
    across, up = roc_points(np.arange(8.0), np.arange(8) >= 5)
    assert across.tolist() == [0, 0, 1]
    assert up.tolist() == [0, 1, 1]


@pytest.mark.parametrize("positive", [np.ones(4, bool), np.zeros(4, bool)])
def test_a_missing_class_has_no_curve(positive):
    assert [len(part) for part in roc_points(np.arange(4.0), positive)] == [0, 0]
