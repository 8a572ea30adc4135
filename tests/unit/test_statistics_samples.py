import numpy as np
import pytest

from robustbench_med.statistics.bootstrap import generator
from robustbench_med.statistics.estimate import BOOTSTRAP, RAO_SCOTT, WILSON
from robustbench_med.statistics.samples import sample
from robustbench_med.statistics.scores import ProbeEntry, Scores

PATIENTS = np.repeat(np.array([f"p{k:02d}" for k in range(20)], dtype=object), 2)
PROBES = (ProbeEntry("clean", "clean", 0.0), ProbeEntry("gamma@1", "shift", 1.0))
RNG = np.random.default_rng(0)


def scores(metric, values, failed=None, asked=None):
    failed = np.zeros(values.shape, dtype=bool) if failed is None else failed
    asked = np.ones(values.shape, dtype=bool) if asked is None else asked
    return Scores(metric, "higher", "mean", PROBES, values, asked, failed)


CORRECT = scores("correct", RNG.integers(0, 2, size=(40, 2)).astype(float))
PSNR = scores("psnr", RNG.normal(30, 2, size=(40, 2)))
ALL = np.ones(40, dtype=bool)


def test_columns_run_over_metrics_and_their_probes():
    found = sample([CORRECT, PSNR], PATIENTS, ALL, generator(0))
    values = [estimate.value for estimate in found.estimates]
    expected = [*CORRECT.values.mean(axis=0), *PSNR.values.mean(axis=0)]
    assert values == pytest.approx(expected)
    assert [e.method for e in found.estimates] == [RAO_SCOTT, RAO_SCOTT, BOOTSTRAP, BOOTSTRAP]
    assert found.draws.shape == (2000, 4)


def test_one_case_per_patient_is_seen_in_the_chosen_cases():
    first = np.arange(40) % 2 == 0
    found = sample([CORRECT], PATIENTS, first, generator(0))
    assert [estimate.method for estimate in found.estimates] == [WILSON, WILSON]
    assert [estimate.patients for estimate in found.estimates] == [20, 20]


def test_cases_are_either_defined_undefined_or_failed():
    values, failed, asked = PSNR.values.copy(), np.zeros((40, 2), bool), np.ones((40, 2), bool)
    values[:7, 0] = np.nan
    failed[:3, 0] = True
    values[10:15, 1] = np.nan
    asked[10:12, 1] = False
    found = sample([scores("psnr", values, failed, asked)], PATIENTS, ALL, generator(0))
    assert found.cases.tolist() == [33, 35]
    assert found.failed.tolist() == [3, 0]
    assert [estimate.undefined for estimate in found.estimates] == [4, 3]


def test_adding_a_metric_moves_no_other_interval():
    alone = sample([PSNR], PATIENTS, ALL, generator(0)).estimates
    beside = sample([CORRECT, PSNR], PATIENTS, ALL, generator(0)).estimates[2:]
    for one, other in zip(alone, beside, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)
