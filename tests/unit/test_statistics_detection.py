from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from robustbench_med.statistics.detection import DETECTION, detection_scores, truth_of
from robustbench_med.statistics.readings import readings_of
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores
from robustbench_med.statistics.worst import with_worst

PROBES = (
    ProbeEntry("clean", "clean", 0.0),
    ProbeEntry("fgsm[b]", "attack", 0.1, "b"),
    ProbeEntry("pgd[b]", "attack", 0.1, "b"),
)
NAN = np.nan


def scores(score, truth, threshold=0.5, **more):
    """Of probabilities of the class `(c, q)`: what is recorded is that of the truth."""
    score, truth = np.array(score, dtype=float), np.array(truth, dtype=float)
    given = np.where(truth[:, None] == 1, score, 1 - score)
    given[np.isnan(truth)] = NAN
    asked = np.ones(score.shape, dtype=bool)
    meaning = Meaning("higher", "mean", (0.0, 1.0), None, "detection", threshold)
    made = Scores("m", meaning, PROBES[: score.shape[1]], given, asked, ~asked, truth=truth)
    return replace(made, **more)


def rates(found, who=None, chosen=None):
    """Value and number of patients of every reading under every probe."""
    count = len(found.values)
    who = np.arange(count) if who is None else who
    chosen = np.ones(count, dtype=bool) if chosen is None else chosen
    portions = {r.metric.removeprefix("m."): r.of(who, chosen) for r in readings_of([found])}
    return {name: (p.values.tolist(), p.deciding.tolist()) for name, p in portions.items()}


def some_scores(cases=200, probes=1, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random(cases) < 0.4).astype(float)
    score = 1 / (1 + np.exp(-(2 * truth[:, None] - 1 + rng.normal(0, 1.5, (cases, probes)))))
    return score, truth


def test_rates_by_hand():
    #            ill: 0.9, 0.5 and 0.2; well: 0.7, 0.4, 0.1, 0.1 and 0.499
    score = [[0.9], [0.5], [0.2], [0.7], [0.4], [0.1], [0.1], [0.499]]
    found = rates(scores(score, [1, 1, 1, 0, 0, 0, 0, 0]))
    assert found["sensitivity"] == ([pytest.approx(2 / 3)], [3])
    assert found["specificity"] == ([pytest.approx(4 / 5)], [5])
    assert found["ppv"] == ([pytest.approx(2 / 3)], [3])
    assert found["npv"] == ([pytest.approx(4 / 5)], [5])
    # of 15 pairs in order: 5 for 0.9, 4 for 0.5, 2 for 0.2
    assert found["auc"] == ([pytest.approx(11 / 15)], [3])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_rates_equal_those_of_scikit_learn(threshold):
    score, truth = some_scores(probes=3)
    found = rates(scores(score, truth, threshold))
    for place in range(3):
        called = score[:, place] >= threshold
        expected = {
            "sensitivity": recall_score(truth, called),
            "specificity": recall_score(truth, called, pos_label=0),
            "ppv": precision_score(truth, called),
            "npv": precision_score(truth, called, pos_label=0),
            "auc": roc_auc_score(truth, score[:, place]),
        }
        for name, value in expected.items():
            assert found[name][0][place] == pytest.approx(value, abs=1e-10), name


def test_calibration_equals_that_of_scikit_learn():
    score, truth = some_scores(400)
    found = rates(scores(score, truth))
    odds = np.log(score / (1 - score))
    slope = LogisticRegression(C=np.inf, tol=1e-10).fit(odds, truth).coef_[0, 0]
    assert found["calibration_slope"][0][0] == pytest.approx(slope, rel=1e-5)
    assert found["observed_expected"][0][0] == pytest.approx(truth.sum() / score.sum())
    intercept = found["calibration_intercept"][0][0]
    moved = 1 / (1 + np.exp(-(odds + intercept)))
    assert moved.sum() == pytest.approx(truth.sum())


def test_without_a_threshold_there_are_no_rates():
    score, truth = some_scores(20)
    found = rates(scores(score, truth, None))
    assert not {"sensitivity", "specificity", "ppv", "npv"} & set(found)
    assert {"auc", "calibration_slope"} <= set(found)
    assert list(detection_scores(scores(score, truth, None))) == []


def test_a_score_at_the_threshold_is_called_positive():
    found = rates(scores([[0.25], [0.25], [0.2]], [1, 0, 0], 0.25))
    assert found["sensitivity"][0] == [1.0]
    assert found["specificity"][0] == [0.5]


def test_the_worst_case_gives_the_truth_the_lowest_probability():
    #           ill: clean, fgsm, pgd        well
    score = [[0.9, 0.6, 0.7], [0.8, 0.9, 0.3], [0.2, 0.4, 0.3], [0.1, 0.1, 0.6]]
    found = with_worst(scores(score, [1, 1, 0, 0]))
    assert [probe.name for probe in found.probes][3] == "worst[b]"
    np.testing.assert_allclose(found.values[:, 3], [0.6, 0.3, 0.6, 0.4])
    made = rates(found)
    assert made["sensitivity"][0] == [1.0, 1.0, 0.5, 0.5]
    assert made["specificity"][0] == [1.0, 1.0, 0.5, 0.5]
    # worst scores 0.6 and 0.3 for the ill, 0.4 and 0.6 for the well: half of one pair is tied
    assert made["auc"][0] == [1.0, 1.0, 0.5, pytest.approx(1.5 / 4)]


def test_cases_without_a_value_are_neither_right_nor_wrong():
    score, truth = some_scores(60, probes=2)
    lost = np.arange(60) % 4 == 0
    score[lost, 1] = NAN
    found = rates(scores(score, truth))
    whole = rates(scores(score[~lost], truth[~lost]))
    assert len(found["smooth_ece"][0]) == 1  # of the clean images only
    for name, (values, deciding) in found.items():
        if name == "smooth_ece":
            continue
        assert values[1] == pytest.approx(whole[name][0][1]), name
        assert deciding[1] == whole[name][1][1], name


def test_a_missing_value_is_undefined_for_every_rate_it_might_count_in():
    truth = [1, 1, 0, 0, NAN]
    found = list(detection_scores(scores([[0.9], [NAN], [0.2], [NAN], [0.6]], truth)))
    expected = {
        "m.sensitivity": ([1, NAN, NAN, NAN, NAN], [True, True, False, False, True]),
        "m.specificity": ([NAN, NAN, 1, NAN, NAN], [False, False, True, True, True]),
        "m.ppv": ([1, NAN, NAN, NAN, NAN], [True, True, False, True, True]),
        "m.npv": ([NAN, NAN, 1, NAN, NAN], [False, True, True, True, True]),
    }
    for one in found:
        values, among = expected[one.metric]
        np.testing.assert_array_equal(one.values[:, 0], values)
        assert one.among[:, 0].tolist() == among
        assert (one.truth, one.penalised, one.meaning.reads) == (None, None, "")
    assert [one.metric for one in found] == list(expected)


def test_cases_of_unknown_truth_count_nowhere():
    score, truth = some_scores(80)
    unknown = np.arange(80) % 5 == 0
    some = np.where(unknown, NAN, truth)
    found, without = rates(scores(score, some)), rates(scores(score[~unknown], truth[~unknown]))
    for name, (values, deciding) in without.items():
        assert found[name] == (pytest.approx(values), deciding), name
    nothing = replace(scores(score, truth), truth=None)
    assert np.isnan(truth_of(nothing)).all()


def test_figures_are_shown_by_the_patients_of_the_rarer_class():
    score, truth = some_scores(60)
    who = np.sort(np.random.default_rng(1).integers(0, 25, 60))
    found = scores(score, truth)
    ill, well = (len(set(who[truth == side])) for side in (1, 0))
    made = rates(found, who)
    assert made["sensitivity"][1] == [ill]
    assert made["specificity"][1] == [well]
    for name in DETECTION:
        assert made[name][1] == [min(ill, well)], name


@pytest.mark.parametrize("name", list(DETECTION))
def test_a_missing_class_leaves_figures_undefined(name):
    score, _ = some_scores(30)
    (value,), deciding = rates(scores(score, np.ones(30)))[name]
    assert np.isnan(value) or name == "observed_expected"
    assert deciding == [0]


@pytest.mark.parametrize("name", [*DETECTION, "sensitivity", "ppv"])
def test_figures_of_a_group_are_those_of_its_cases_alone(name):
    score, truth = some_scores(120, probes=2)
    who = np.repeat(np.arange(40), 3)
    chosen = who % 3 == 1
    whole = rates(scores(score, truth), who, chosen)[name]
    alone = rates(scores(score[chosen], truth[chosen]), who[chosen])[name]
    assert whole == (pytest.approx(alone[0]), alone[1])


@pytest.mark.parametrize("name", [*DETECTION, "sensitivity", "specificity", "ppv", "npv"])
def test_influences_foretell_what_leaving_out_a_patient_does(name):
    score, truth = some_scores(600, seed=3)
    who = np.repeat(np.arange(200), 3)
    found = scores(score, truth)
    reading = next(r for r in readings_of([found]) if r.metric == f"m.{name}")
    whole = reading.of(who, np.ones(600, dtype=bool))
    left = np.array([reading.of(who, who != patient).values[0] for patient in range(0, 200, 5)])
    foretold = -whole.influence[::5, 0] * 200 / 199
    np.testing.assert_allclose(left - whole.values[0], foretold, atol=0.06 * np.abs(foretold).max())
    assert whole.influence.sum() == pytest.approx(0, abs=1e-6)
