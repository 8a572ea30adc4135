import numpy as np
import pytest

from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores, badness


def scores(values, patient="mean"):
    values = np.array(values, dtype=float)
    probes = tuple(ProbeEntry(f"gamma@{k}", "shift", float(k)) for k in range(values.shape[1]))
    asked = np.ones(values.shape, dtype=bool)
    return Scores("correct", Meaning("higher", patient), probes, values, asked, ~asked)


def test_a_metric_is_zero_one_if_every_defined_value_under_every_probe_is():
    assert scores([[0, 1], [1, np.nan]]).zero_one
    assert not scores([[0, 1], [1, 0.5]]).zero_one


@pytest.mark.parametrize("patient", ["sum", "dice"])
def test_a_patient_value_made_from_zeros_and_ones_is_no_share(patient):
    assert not scores([[0, 1], [1, 1]], patient).zero_one


def test_a_probe_ran_where_it_was_put_and_did_not_fail():
    some = scores([[0, 1], [1, 1]])
    some.asked[0, 0] = False
    some.failed[1, 1] = True
    assert some.ran.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("better", "order"),
    [("higher", [-3, 0, 1, 4]), ("lower", [4, 1, 0, -3]), ("zero", [4, -3, 1, 0]),
     ("one", [-3, 4, 0, 1])],
)  # fmt: skip
def test_the_worst_value_is_the_one_with_most_badness(better, order):
    values = np.sort(np.array(order, dtype=float))
    ranked = np.argsort(-badness(values, better), kind="stable")
    assert values[ranked].tolist() == order
