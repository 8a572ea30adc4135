import numpy as np
import pytest

from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores
from robustbench_med.statistics.worst import with_worst, worst_of

NAN = np.nan
PROBES = (
    ProbeEntry("clean", "clean", 0.0),
    ProbeEntry("fgsm[b]", "attack", 0.1, "b"),
    ProbeEntry("pgd[b]", "attack", 0.1, "b"),
    ProbeEntry("pgd[c]", "attack", 0.2, "c"),
    ProbeEntry("gamma@1", "shift", 1.0),
    ProbeEntry("crown[b]", "certificate", 0.1, "b"),
)
#                      clean fgsm  pgd  pgd@c gamma crown
VALUES = np.array(
    [
        [0.9, 0.5, 0.6, 0.1, 0.0, 0.0],  # fgsm is worst in b
        [0.9, 0.7, 0.2, 0.3, 0.0, 0.0],  # pgd is
        [0.3, 0.7, 0.8, 0.4, 0.0, 0.0],  # clean is: attacks need not succeed
        [0.9, NAN, 0.8, NAN, 0.0, 0.0],  # fgsm failed, pgd decides; all of c failed
        [0.9, NAN, NAN, NAN, 0.0, 0.0],  # no attack was put to it
        [NAN, NAN, NAN, NAN, 0.0, 0.0],  # undefined everywhere, nothing failed
    ]
)
FAILED = np.zeros_like(VALUES, dtype=bool)
FAILED[3, [1, 3]] = True
ASKED = np.ones_like(FAILED)
ASKED[4, 1:4] = False


def scores(better="higher", values=VALUES, parts=None, penalised=None):
    return Scores("m", Meaning(better), PROBES, values, ASKED, FAILED, parts, penalised)


def column(found, name):
    return [probe.name for probe in found.probes].index(name)


def test_the_worst_case_is_taken_per_case_over_clean_and_all_attacks_of_the_ball():
    found = with_worst(scores())
    assert found.probes[6:] == (
        ProbeEntry("worst[b]", "worst", 0.1, "b"),
        ProbeEntry("worst[c]", "worst", 0.2, "c"),
    )
    np.testing.assert_array_equal(found.values[:, 6], [0.5, 0.2, 0.3, 0.8, NAN, NAN])
    np.testing.assert_array_equal(found.values[:, 7], [0.1, 0.3, 0.3, NAN, NAN, NAN])


def test_failures_are_counted_and_unasked_cases_are_not():
    found = with_worst(scores())
    assert found.failed[:, 6].tolist() == [False, False, False, True, False, False]
    assert found.failed[:, 7].tolist() == [False, False, False, True, False, False]
    assert found.asked[:, 6].tolist() == [True, True, True, True, False, True]


def test_a_clean_failure_counts_only_where_an_attack_was_tried():
    failed = FAILED.copy()
    failed[[0, 4], 0] = True
    found = with_worst(Scores("m", Meaning("higher"), PROBES, VALUES, ASKED, failed))
    assert found.failed[:, 6].tolist() == [True, False, False, True, False, False]


def test_worst_is_highest_where_lower_is_better():
    found = with_worst(scores("lower"))
    np.testing.assert_array_equal(found.values[:, 6], [0.9, 0.9, 0.8, 0.9, NAN, NAN])


def test_worst_is_farthest_from_zero_with_its_sign_where_zero_is_better():
    values = VALUES.copy()
    values[0, :3] = [2.0, -5.0, 4.0]
    assert with_worst(scores("zero", values)).values[0, 6] == -5.0


def test_worst_is_farthest_from_one_where_one_is_better():
    values = VALUES.copy()
    values[0, :3] = [0.2, 1.7, 1.9]
    assert with_worst(scores("one", values)).values[0, 6] == 1.9


def test_a_penalty_comes_from_the_probe_that_was_worst_for_that_case():
    penalised = np.zeros_like(ASKED)
    penalised[0, 1] = True  # fgsm is the worst of b there, pgd[c] of c
    penalised[1, 1] = True  # fgsm is not the worst
    penalised[4, 0] = True  # no attack was put to it
    found = with_worst(scores(penalised=penalised)).penalised
    np.testing.assert_array_equal(found[:, :6], penalised)
    assert found[:, 6].tolist() == [True, False, False, False, False, False]
    assert not found[:, 7].any()


def test_companions_come_from_the_probe_that_was_worst_for_that_case():
    parts = np.arange(3 * 6 * 6, dtype=float).reshape(3, 6, 6)
    found = with_worst(scores(parts=parts))
    chosen = [1, 2, 0, 2]
    np.testing.assert_array_equal(found.parts[:, range(4), 6], parts[:, range(4), chosen])
    assert np.isnan(found.parts[:, 4, 6]).all()
    np.testing.assert_array_equal(found.parts[:, 5, 6], parts[:, 5, 0])


def test_the_columns_that_were_there_stay_as_they_were():
    found = with_worst(scores())
    np.testing.assert_array_equal(found.values[:, :6], VALUES)
    np.testing.assert_array_equal(found.failed[:, :6], FAILED)


def test_without_attacks_nothing_is_added():
    some = scores()
    kept = [0, 4, 5]
    few = Scores(
        "m", Meaning("higher"), tuple(PROBES[k] for k in kept), some.values[:, kept],
        ASKED[:, kept], FAILED[:, kept],
    )  # fmt: skip
    assert with_worst(few) is few


@pytest.mark.parametrize("better", ["higher", "lower", "zero", "one"])
def test_the_choice_equals_a_plain_loop(better):
    rng = np.random.default_rng(0)
    values = rng.integers(-3, 4, size=(300, 4)).astype(float)
    values[rng.random(values.shape) < 0.4] = NAN
    ran = rng.random(values.shape) < 0.7
    badness = {
        "higher": lambda v: -v, "lower": lambda v: v, "zero": abs, "one": lambda v: abs(v - 1),
    }[better]  # fmt: skip
    for row, found in enumerate(worst_of(values, ran, better)):
        defined = [k for k in range(4) if not np.isnan(values[row, k])]
        running = [k for k in defined if ran[row, k]] or defined
        fallback = [k for k in range(4) if ran[row, k]] or [0]
        best = max(running, key=lambda k: badness(values[row, k])) if running else fallback[0]
        assert found == best
