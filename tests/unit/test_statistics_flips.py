import runpy
from pathlib import Path

import numpy as np
import pytest

from robustbench_med.statistics.paired import tango
from robustbench_med.statistics.table import estimate_run

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
row, tables = FIXTURE["row"], FIXTURE["tables"]


def flipping(patients, lost, gained, cases=1):
    """Clean and shifted 0/1 values: the first `lost` patients lose, the next `gained` gain."""
    clean = np.ones(patients)
    clean[lost : lost + gained] = 0
    shifted = clean.copy()
    shifted[:lost] = 0
    shifted[lost : lost + gained] = 1
    return np.repeat(clean, cases), np.repeat(shifted, cases), np.repeat(np.arange(patients), cases)


def change_of(patients, lost, gained, cases=1):
    clean, shifted, who = flipping(patients, lost, gained, cases)
    values = {"correct": {"clean": clean, "blur@1": shifted}}
    return row(estimate_run(*tables(values, who=who)), probe="blur@1")


@pytest.mark.parametrize(("lost", "gained"), [(3, 1), (0, 2), (0, 0), (30, 0)])
@pytest.mark.parametrize("cases", [1, 4])
def test_a_change_of_whole_patients_gets_the_paired_score_interval(lost, gained, cases):
    found = change_of(40, lost, gained, cases)
    assert found["change"] == pytest.approx((gained - lost) / 40)
    assert found["change_method"] == "Tango"
    assert (found["change_low"], found["change_high"]) == pytest.approx(tango(gained, lost, 40))


def test_patients_who_changed_in_part_keep_the_bootstrap():
    rng = np.random.default_rng(0)
    values = {"correct": {"clean": np.ones(160), "blur@1": rng.integers(0, 2, 160)}}
    found = row(estimate_run(*tables(values, who=np.arange(160) // 4)), probe="blur@1")
    assert found["change_method"] == "patient bootstrap, studentised"


def test_values_that_are_no_shares_keep_the_bootstrap():
    rng = np.random.default_rng(1)
    clean = rng.normal(size=60)
    values = {"psnr": {"clean": clean, "blur@1": clean + rng.integers(-1, 2, 60)}}
    found = row(estimate_run(*tables(values)), probe="blur@1")
    assert found["change_method"] == "patient bootstrap, studentised"
