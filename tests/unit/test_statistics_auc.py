import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robustbench_med.statistics.auc import auc, auc_interval, degrees_of_freedom
from robustbench_med.statistics.linear import Linear
from robustbench_med.statistics.proportions import clopper_pearson

RNG = np.random.default_rng(4)
PATIENTS = 60


def clustered(rng, patients=PATIENTS, *, by_patient=False, icc=0.5, gap=1.2):
    patient = np.repeat(np.arange(patients), rng.integers(1, 9, patients))
    share = rng.random(patients)[patient]
    positive = share < 0.4 if by_patient else rng.random(len(patient)) < 0.4
    own, case = rng.normal(size=patients)[patient], rng.normal(size=len(patient))
    score = gap * positive + math.sqrt(icc) * own + math.sqrt(1 - icc) * case
    return 1 / (1 + np.exp(-score)), positive, patient


def wins(above, below):
    return (above[:, None] > below) + (above[:, None] == below) / 2


def delong(above, below):
    table = wins(above, below)
    return table.mean(axis=1).var(ddof=1) / len(above) + table.mean(axis=0).var(ddof=1) / len(below)


def obuchowski(score, positive, patient):
    """The variance of the paper, term by term, from the table of all pairs."""
    table = wins(score[positive], score[~positive])
    area, (m, n) = table.mean(), table.shape
    right = np.zeros((patient.max() + 1, 2))
    np.add.at(right[:, 0], patient[positive], table.mean(axis=1) - area)
    np.add.at(right[:, 1], patient[~positive], table.mean(axis=0) - area)
    have = [len(set(patient[side])) for side in (positive, ~positive)]
    grown = [count / (count - 1) for count in have]
    spread = [g * np.square(r).sum() for g, r in zip(grown, right.T, strict=True)]
    both = math.sqrt(grown[0] * grown[1]) * (right[:, 0] * right[:, 1]).sum()
    return spread[0] / m**2 + spread[1] / n**2 + 2 * both / (m * n)


@pytest.mark.parametrize("digits", [15, 1])
def test_the_area_equals_scikit_learns_also_with_ties(digits):
    score, positive, patient = clustered(np.random.default_rng(1))
    score = score.round(digits)
    found = auc(score, positive, patient, PATIENTS)
    assert found.value == pytest.approx(roc_auc_score(positive, score), abs=1e-10)
    assert found.patients == PATIENTS
    assert found.influence.sum() == pytest.approx(0, abs=1e-14)


def test_with_one_case_per_patient_the_variance_is_delongs():
    rng = np.random.default_rng(2)
    positive = rng.random(80) < 0.3
    score = (rng.random(80) + 0.4 * positive).round(2)
    found = auc(score, positive, np.arange(80), 80)
    assert found.variance == pytest.approx(delong(score[positive], score[~positive]), rel=1e-12)


@pytest.mark.parametrize("by_patient", [True, False])
def test_with_several_the_variance_is_obuchowskis(by_patient):
    cases = clustered(np.random.default_rng(3), by_patient=by_patient)
    assert auc(*cases, PATIENTS).variance == pytest.approx(obuchowski(*cases), rel=1e-12)


def test_the_influences_foretell_what_leaving_a_patient_out_does():
    score, positive, patient = clustered(np.random.default_rng(5), 200)
    found = auc(score, positive, patient, 200)
    kept = [patient != one for one in range(200)]
    without = [auc(score[part], positive[part], patient[part], 200).value for part in kept]
    change = found.value - np.array(without)
    assert np.corrcoef(change, found.influence)[0, 1] > 0.999
    assert change.std() == pytest.approx(found.influence.std(), rel=0.02)


def test_copies_of_the_cases_change_neither_area_nor_variance():
    cases = clustered(np.random.default_rng(6))
    once, often = auc(*cases, PATIENTS), auc(*(np.repeat(part, 7) for part in cases), PATIENTS)
    assert often.value == pytest.approx(once.value, abs=1e-12)
    assert often.variance == pytest.approx(once.variance, rel=1e-12)


def test_patients_without_cases_pull_nothing_and_are_not_counted():
    score, positive, patient = clustered(np.random.default_rng(7))
    found, padded = auc(score, positive, patient, 60), auc(score, positive, patient + 5, 70)
    assert padded.patients == found.patients == 60
    assert padded.variance == pytest.approx(found.variance)
    assert not padded.influence[:5].any()
    assert not padded.influence[65:].any()


@pytest.mark.parametrize("positive", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_a_missing_class_leaves_the_area_undefined(positive):
    found = auc(np.full(len(positive), 0.5), positive, np.arange(len(positive)), 3)
    assert math.isnan(found.value)
    assert found.patients == 0
    assert np.isnan(auc_interval(found, 0)).all()


def test_one_patient_alone_with_a_class_has_a_value_but_no_variance():
    positive = np.array([True, True, False, False, False])
    found = auc(np.array([0.9, 0.3, 0.4, 0.2, 0.1]), positive, np.array([0, 0, 1, 2, 3]), 4)
    assert found.value == pytest.approx(5 / 6)
    assert math.isnan(found.variance)
    assert np.isnan(auc_interval(found, 1)).all()


@pytest.mark.parametrize("value", [1.0, 0.0, 0.5])
def test_an_area_without_spread_gets_the_exact_limits_of_disjoint_pairs(value):
    found = Linear(value, np.zeros(40), 40)
    assert auc_interval(found, 8) == clopper_pearson(8 * value, 8)
    assert auc_interval(found, 40) == clopper_pearson(20 * value, 20)
    assert np.isnan(auc_interval(found)).all()


def test_equal_scores_are_no_certainty_of_one_half():
    positive = np.arange(30) % 3 == 0
    found = auc(np.full(30, 0.2), positive, np.arange(30), 30)
    assert found.value == 0.5
    low, high = auc_interval(found, 10)
    assert low < 0.2
    assert high > 0.8


def test_perfect_order_is_rarer_than_the_lower_limit_of_an_area_of_one_allows():
    # Half of the positive cases score like the negative ones, the others above them all.
    rng, area, draws = np.random.default_rng(8), 0.75, 20000
    above = np.where(rng.random((draws, 3)) < 0.5, rng.random((draws, 3)), 2)
    perfect = above.min(axis=1) > rng.random((draws, 4)).max(axis=1)
    assert perfect.mean() <= area**3
    (low, _) = auc_interval(Linear(1.0, np.zeros(7), 7), 3)
    assert low**3 == pytest.approx(0.025)


def test_limits_lie_around_the_value_inside_the_unit_interval_and_widen_with_the_level():
    found = auc(*clustered(np.random.default_rng(9), gap=3.0), PATIENTS)
    narrow, wide = auc_interval(found, 30, 0.8), auc_interval(found, 30, 0.99)
    assert 0 < wide[0] < narrow[0] < found.value < narrow[1] < wide[1] < 1


def test_few_patients_of_one_class_widen_the_limits():
    found = auc(*clustered(np.random.default_rng(10)), PATIENTS)
    widths = [np.ptp(auc_interval(found, smaller)) for smaller in (3, 6, 20)]
    assert widths[0] > widths[1] > widths[2] >= np.ptp(auc_interval(found))


def test_degrees_of_freedom_count_those_who_carry_the_variance():
    normal = RNG.normal(size=20000)
    assert degrees_of_freedom(Linear(0.5, normal, 20000)) == pytest.approx(20000, rel=0.1)
    few = np.zeros(1000)
    few[:10] = RNG.normal(size=10)
    assert degrees_of_freedom(Linear(0.5, few, 1000)) < 20
    assert degrees_of_freedom(Linear(0.5, np.zeros(9), 9)) == math.inf


def test_the_limits_cover_the_true_area_of_clustered_cases():
    rng, covered, truth = np.random.default_rng(11), 0, 0.8555778168267576
    for _ in range(300):
        score, positive, patient = clustered(rng, 60, by_patient=True, gap=1.5)
        found = auc(score, positive, patient, 60)
        fewer = min(len(set(patient[positive])), len(set(patient[~positive])))
        low, high = auc_interval(found, fewer)
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99
