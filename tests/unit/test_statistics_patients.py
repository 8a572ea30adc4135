import numpy as np
import pytest

from robustbench_med.statistics.patients import patient_sums
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores

PATIENTS = np.array([0, 0, 1, 1, 2])
ALL = np.ones(5, dtype=bool)
NAN = np.nan


def scores(values, patient, asked=None, parts=None):
    values = np.array(values, dtype=float)[:, None]
    asked = np.ones_like(values, dtype=bool) if asked is None else np.array(asked)[:, None]
    probes = (ProbeEntry("clean", "clean", 0.0),)
    none = np.zeros_like(asked)
    parts = None if parts is None else np.array(parts, dtype=float)[:, :, None]
    return Scores("m", Meaning("higher", patient), probes, values, asked, none, parts)


def columns(sums):
    return sums.numerator[:, 0].tolist(), sums.denominator[:, 0].tolist()


def test_means_add_up_cases_and_count_the_defined_ones():
    found = patient_sums(scores([1, 2, NAN, 4, NAN], "mean"), PATIENTS, ALL)
    assert columns(found) == ([3, 4, 0], [2, 1, 0])


def test_sums_are_counted_once_and_undefined_if_a_part_is():
    found = patient_sums(scores([1, 2, NAN, 4, 7], "sum"), PATIENTS, ALL)
    assert columns(found) == ([3, 0, 7], [1, 0, 1])


def test_cases_that_were_not_asked_are_no_missing_part():
    asked = [True, True, False, True, False]
    found = patient_sums(scores([1, 2, NAN, 4, NAN], "sum", asked), PATIENTS, ALL)
    assert columns(found) == ([3, 4, 0], [1, 1, 0])


def test_dice_of_a_patient_comes_from_summed_voxels():
    parts = [[10, 0, 3, 3, 0], [10, 5, 6, 4, 0], [10, 0, 6, 4, 0]]
    found = patient_sums(scores([1, 0, 0.5, 0.75, NAN], "dice", parts=parts), PATIENTS, ALL)
    assert columns(found) == (pytest.approx([20 / 25, 12 / 20, 0]), [1, 1, 0])


def test_a_case_without_structure_adds_no_voxels_and_is_no_missing_part():
    parts = [[8, 0, 3, 3, 1], [8, 0, 6, 4, 1], [8, 0, 6, 4, 1]]
    found = patient_sums(scores([1, NAN, 0.5, 0.75, 1], "dice", parts=parts), PATIENTS, ALL)
    assert columns(found)[0][0] == 1.0


def test_a_failed_case_leaves_its_patient_without_dice():
    parts = [[8, NAN, 3, 3, 1], [8, NAN, 6, 4, 1], [8, NAN, 6, 4, 1]]
    found = patient_sums(scores([1, NAN, 0.5, 0.75, 1], "dice", parts=parts), PATIENTS, ALL)
    assert columns(found)[1] == [0, 1, 1]


def test_only_the_chosen_cases_and_their_patients_count():
    chosen = np.array([False, True, False, False, True])
    found = patient_sums(scores([1, 2, 3, 4, 5], "mean"), PATIENTS, chosen)
    assert columns(found) == ([2, 5], [1, 1])


def test_every_probe_is_added_up_by_itself():
    two = three("mean", "higher", [[1, NAN, 2], [2, 3, 5]])
    found = patient_sums(two, np.array([4, 7]), np.ones(2, dtype=bool))
    assert found.numerator.tolist() == [[1, 0, 2], [2, 3, 5]]
    assert found.denominator.tolist() == [[1, 0, 1], [1, 1, 1]]


def three(patient, better, values, parts=None):
    probes = (
        ProbeEntry("clean", "clean", 0.0),
        ProbeEntry("pgd[b]", "attack", 1.0, "b"),
        ProbeEntry("worst[b]", "worst", 1.0, "b"),
    )
    values = np.array(values, dtype=float)
    asked = np.ones_like(values, dtype=bool)
    return Scores("m", Meaning(better, patient), probes, values, asked, ~asked, parts)


def test_a_patients_worst_dice_is_no_better_than_one_attack_alone():
    # Slice by slice clean and attack tie at 0 and the first is taken; its false alarms are fewer.
    parts = np.array(
        [
            [[0, 0, 0], [9, 8, 8]],  # shared: slice x (clean, attack, worst)
            [[1, 50, 1], [10, 10, 10]],  # predicted
            [[5, 5, 5], [10, 10, 10]],  # true
        ],
        dtype=float,
    )
    found = patient_sums(
        three("dice", "higher", [[0, 0, 0], [0.9, 0.8, 0.8]], parts),
        np.zeros(2, dtype=int),
        np.ones(2, dtype=bool),
    )
    clean, attack, worst = found.numerator[0]
    assert attack == pytest.approx(16 / 75)
    assert worst == attack < clean


def test_a_patients_worst_signed_sum_is_no_nearer_to_zero_than_one_attack_alone():
    # The largest errors by slice, +3 and -4, cancel; the attack's own, +3 and +2, do not.
    found = patient_sums(
        three("sum", "zero", [[1, 3, 3], [-4, 2, -4]]),
        np.zeros(2, dtype=int),
        np.ones(2, dtype=bool),
    )
    assert found.numerator[0].tolist() == [-3, 5, 5]


def test_the_worst_case_is_farthest_from_one_where_one_is_best():
    found = patient_sums(
        three("sum", "one", [[0.5, 1.5, 1.5], [0.2, 0.3, 0.2]]),
        np.zeros(2, dtype=int),
        np.ones(2, dtype=bool),
    )
    # 0.7, 1.8 and 1.7: the attack's own cases are 0.8 away from 1
    assert found.numerator[0] == pytest.approx([0.7, 1.8, 1.8])


def test_an_attack_on_fewer_cases_of_a_patient_is_no_rival():
    scores = three("sum", "lower", [[1, 7, 7], [1, NAN, 1]])
    scores.asked[1, 1] = False
    found = patient_sums(scores, np.zeros(2, dtype=int), np.ones(2, dtype=bool))
    assert found.numerator[0].tolist() == [2, 7, 8]
