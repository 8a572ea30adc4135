import numpy as np
import pytest

from robustbench_med.statistics.scores import ProbeEntry, Scores


def scores(values, patient="mean"):
    values = np.array(values, dtype=float)
    probes = tuple(ProbeEntry(f"gamma@{k}", "shift", float(k)) for k in range(values.shape[1]))
    asked = np.ones(values.shape, dtype=bool)
    return Scores("correct", "higher", patient, probes, values, asked, ~asked)


def test_a_metric_is_zero_one_if_every_defined_value_under_every_probe_is():
    assert scores([[0, 1], [1, np.nan]]).zero_one
    assert not scores([[0, 1], [1, 0.5]]).zero_one


@pytest.mark.parametrize("patient", ["sum", "dice"])
def test_a_patient_value_made_from_zeros_and_ones_is_no_share(patient):
    assert not scores([[0, 1], [1, 1]], patient).zero_one
