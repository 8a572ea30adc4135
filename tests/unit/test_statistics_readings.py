from dataclasses import replace

import numpy as np
import pytest

from robustbench_med.statistics.readings import readings_of
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores
from robustbench_med.statistics.smooth_ece import smooth_ece

PROBES = (ProbeEntry("clean", "clean", 0.0), ProbeEntry("gamma@1", "shift", 1.0))
NAN = np.nan
WHO = np.array([0, 0, 1, 1, 2, 3, 3])
ALL = np.ones(7, dtype=bool)
VALUES = np.array([[1.0, 5], [3, NAN], [-2, 1], [-4, 2], [0, 0], [NAN, 3], [6, 3]])


def scores(meaning, values=VALUES, parts=None, truth=None):
    asked = np.ones(values.shape, dtype=bool)
    return Scores("m", meaning, PROBES, values, asked, ~asked, parts, truth=truth)


def reading(found, name):
    return next(each for each in readings_of([found]) if each.metric == name)


def measured(found, name, chosen=ALL):
    return reading(found, name).of(WHO, chosen)


@pytest.mark.parametrize(
    ("meaning", "extra"),
    [
        (Meaning("higher"), []),
        (Meaning("lower", tolerance=0.1), [".failure"]),
        (Meaning("zero"), [".loa_low", ".loa_high"]),
        (Meaning("zero", "sum", tolerance=3.0), [".failure", ".loa_low", ".loa_high"]),
        (Meaning("higher", reads="detection"), []),
    ],
)
def test_each_metric_is_followed_by_what_is_made_from_it(meaning, extra):
    metrics = [each.metric for each in readings_of([scores(meaning), scores(Meaning("lower"))])]
    assert metrics == ["m", *(f"m{name}" for name in extra), "m"]


def test_a_finding_with_truth_is_read_in_all_its_figures():
    truth = np.array([1.0, 0, 1, 0, 1, 0, 1])
    plain = scores(Meaning("higher", reads="detection"), truth=truth)
    figures = [".auc", ".calibration_intercept", ".calibration_slope", ".observed_expected"]
    rates = [".sensitivity", ".specificity", ".ppv", ".npv"]
    names = [each.metric.removeprefix("m") for each in readings_of([plain])]
    assert [name for name in names if name in figures] == figures
    assert not set(rates) & set(names)
    known = replace(plain, meaning=replace(plain.meaning, threshold=0.5))
    found = {each.metric.removeprefix("m"): each for each in readings_of([known])}
    assert {*figures, *rates} <= set(found)
    assert [found[name].better for name in figures] == ["higher", "zero", "one", "one"]
    assert all(found[name].better == "higher" and found[name].share for name in rates)
    assert all(found[name].by_patient for name in rates)
    assert not any(found[name].by_patient for name in figures)
    assert found[".auc"].limits == found[".ppv"].limits == (0.0, 1.0)
    assert found[".calibration_slope"].limits is None


def test_the_smooth_calibration_error_is_read_off_the_clean_images_only():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 80).astype(float)
    given, who = rng.beta(3, 2, (80, 2)), np.repeat(np.arange(40), 2)
    some = scores(Meaning("higher", reads="detection"), given, truth=truth)
    found = reading(some, "m.smooth_ece")
    assert [probe.name for probe in found.probes] == ["clean"]
    assert (found.better, found.limits, found.by_patient) == ("lower", (0.0, 1.0), False)
    score = np.where(truth == 1, given[:, 0], 1 - given[:, 0])
    expected = smooth_ece(score, truth == 1)
    made = found.of(who, np.ones(80, dtype=bool))
    assert made.values == pytest.approx([expected])
    without = replace(some, probes=tuple(replace(probe, kind="shift") for probe in PROBES))
    assert "m.smooth_ece" not in [each.metric for each in readings_of([without])]


def test_the_metric_itself_is_read_as_it_is():
    found = reading(scores(Meaning("higher", limits=(-9.0, 9.0))), "m")
    assert (found.better, found.limits, found.share) == ("higher", (-9.0, 9.0), False)
    assert found.probes == PROBES
    assert found.of(WHO, ALL).values == pytest.approx([4 / 6, 14 / 6])
    assert reading(scores(Meaning("higher"), np.zeros((7, 2))), "m").share


@pytest.mark.parametrize(
    ("better", "tolerance", "clean", "shifted"),
    [
        ("higher", 0.0, 2 / 6, 0 / 6),  # below 0: -2 and -4
        ("lower", 2.0, 2 / 6, 3 / 6),  # above 2: 3 and 6; 5, 3 and 3
        ("zero", 2.0, 3 / 6, 3 / 6),  # farther than 2 from 0: 3, -4 and 6
        ("one", 3.0, 3 / 6, 1 / 6),  # farther than 2 from 1: -2, -4 and 6; 5
    ],
)
def test_failure_is_the_share_of_cases_worse_than_the_tolerance(better, tolerance, clean, shifted):
    some = scores(Meaning(better, tolerance=tolerance))
    found = measured(some, "m.failure")
    assert found.values == pytest.approx([clean, shifted])
    assert found.sums.denominator.tolist() == [[2, 1], [2, 2], [1, 1], [1, 2]]
    failure = reading(some, "m.failure")
    assert (failure.better, failure.limits, failure.share) == ("lower", (0.0, 1.0), True)


def test_a_value_at_the_tolerance_is_no_failure():
    for better in ("higher", "lower", "zero"):
        some = scores(Meaning(better, tolerance=2.0), np.full((7, 2), 2.0))
        assert measured(some, "m.failure").values.tolist() == [0, 0]


def test_failure_of_sums_counts_patients():
    # Sums: 4, -6, 0 and undefined; shifted undefined, 3, 0 and 6.
    some = scores(Meaning("zero", "sum", tolerance=3.0))
    found = measured(some, "m.failure")
    assert found.values == pytest.approx([2 / 3, 1 / 3])
    assert found.sums.numerator.tolist() == [[1, 0], [1, 0], [0, 0], [0, 1]]
    assert found.sums.denominator.tolist() == [[1, 0], [1, 1], [1, 1], [0, 1]]
    assert reading(some, "m.failure").share


def test_failure_of_dice_counts_patients_by_their_own_dice():
    shared = np.array([[4.0, 0], [0, 0], [9, 5], [1, 5], [3, 3], [0, 0], [0, 0]])
    size = np.array([[5.0, 5], [5, 5], [10, 10], [10, 10], [4, 4], [0, 0], [0, 0]])
    parts = np.stack([shared, size, size])
    some = scores(Meaning("higher", "dice", tolerance=0.5), np.zeros((7, 2)), parts)
    # Dice: 0.4, 0.5 and 0.75, the last patient has none; shifted 0, 0.5 and 0.75.
    found = measured(some, "m.failure")
    assert found.values == pytest.approx([1 / 3, 1 / 3])
    assert found.patients.tolist() == [3, 3]


def test_penalties_are_no_matter_of_the_failures():
    some = replace(scores(Meaning("lower", tolerance=2.0)), penalised=np.ones((7, 2), dtype=bool))
    assert reading(some, "m.failure").scores.penalised is None
    assert reading(some, "m").scores.penalised is some.penalised


def test_limits_of_agreement_of_one_case_each_are_bland_and_altmans():
    rng = np.random.default_rng(0)
    values, who = rng.normal(2, 3, (50, 2)), np.arange(50)
    some = scores(Meaning("zero"), values)
    for name, sign in (("m.loa_low", -1), ("m.loa_high", 1)):
        found = reading(some, name).of(who, np.ones(50, dtype=bool))
        expected = values.mean(axis=0) + sign * 1.96 * values.std(axis=0, ddof=1)
        assert found.values == pytest.approx(expected)
        assert found.patients.tolist() == [50, 50]
        # Bland and Altman 1986: about sqrt(3 sd^2 / n)
        assert found.error == pytest.approx(np.sqrt(3 / 50) * values.std(axis=0, ddof=1), rel=0.2)


def test_limits_of_agreement_of_sums_are_those_of_patients():
    some = scores(Meaning("zero", "sum"))
    sums = np.array([4.0, -6, 0])
    for name, sign in (("m.loa_low", -1), ("m.loa_high", 1)):
        found = measured(some, name)
        assert found.values[0] == pytest.approx(sums.mean() + sign * 1.96 * sums.std(ddof=1))
        assert found.patients.tolist() == [3, 3]
        assert found.held[:, 0].tolist() == [True, True, True, False]


def test_limits_of_agreement_need_two_patients_and_leave_out_the_infinite():
    endless = VALUES.copy()
    endless[4] = np.inf
    some = scores(Meaning("zero"), endless)
    plain = VALUES.copy()
    plain[4] = NAN
    found, expected = (
        measured(some, "m.loa_low"),
        measured(scores(Meaning("zero"), plain), "m.loa_low"),
    )
    assert found.values.tolist() == expected.values.tolist()
    alone = measured(some, "m.loa_low", WHO == 1)
    assert np.isnan(alone.values).all()
    assert alone.patients.tolist() == [0, 0]


def test_readings_of_a_group_see_its_cases_only():
    for meaning in (Meaning("zero", tolerance=2.0), Meaning("zero", "sum", tolerance=2.0)):
        chosen = np.array([True, False, False, True, True, False, True])
        whole = {r.metric: r.of(WHO, chosen) for r in readings_of([scores(meaning)])}
        few = {
            r.metric: r.of(WHO[chosen], np.ones(4, dtype=bool))
            for r in readings_of([scores(meaning, VALUES[chosen])])
        }
        for name, found in whole.items():
            np.testing.assert_allclose(found.values, few[name].values)
            np.testing.assert_allclose(found.influence, few[name].influence, atol=1e-15)
