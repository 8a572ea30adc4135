"""Intervals mean what they say: coverage by simulation, and what must not move them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.statistics import studentised
from robustbench_med.statistics.bootstrap import draw_patients, generator, replicate
from robustbench_med.statistics.estimate import of_share
from robustbench_med.statistics.patients import PatientSums
from robustbench_med.statistics.portion import of_sums
from robustbench_med.statistics.proportions import clopper_pearson, rao_scott, wilson
from robustbench_med.statistics.table import estimate_run

REPEATS = 400


def clustered_normal(patients, images, icc, seed):
    """Images of variance 1 around 0 that share `icc` of it within a patient."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, np.sqrt(icc), (patients, 1, REPEATS))
    return shared + rng.normal(0, np.sqrt(1 - icc), (patients, images, REPEATS))


def resampled(numerator, denominator, seed=0, name=""):
    """Ratios of sums, and their resamples."""
    found = of_sums(PatientSums(numerator, denominator))
    table = draw_patients(len(numerator), generator(seed, name))
    return found, replicate(table, found.influence, found.held)


def coverage(numerator, denominator):
    found, drawn = resampled(numerator, denominator)
    low, high = studentised.limits(found.values, found.error, drawn)
    return np.mean((low <= 0) & (high >= 0))


@pytest.mark.parametrize(("patients", "images", "icc"), [(100, 10, 0.3), (50, 10, 0.5)])
def test_patient_intervals_cover_where_image_intervals_do_not(patients, images, icc):
    values = clustered_normal(patients, images, icc, seed=1)
    ours = coverage(values.sum(axis=1), np.full((patients, REPEATS), float(images)))
    naive = coverage(values.reshape(-1, REPEATS), np.ones((patients * images, REPEATS)))
    assert ours >= 0.90
    assert naive <= 0.75


@pytest.mark.parametrize(("patients", "images", "icc"), [(60, 8, 0.3), (60, 8, 0.5)])
def test_rao_scott_covers_where_wilson_on_images_does_not(patients, images, icc):
    share, spread = 0.85, 1 / icc - 1
    rng = np.random.default_rng(2)
    rates = rng.beta(share * spread, (1 - share) * spread, (REPEATS, patients))
    counts = rng.binomial(images, rates)
    sizes = np.full(patients, images)
    ours = [rao_scott(row, sizes) for row in counts]
    naive = [wilson(row.sum(), sizes.sum()) for row in counts]
    assert np.mean([low <= share <= high for low, high in ours]) >= 0.90
    assert np.mean([low <= share <= high for low, high in naive]) <= 0.80


def test_the_exact_interval_covers_whatever_the_share():
    for n in (10, 30):
        limits = [clopper_pearson(k, n) for k in range(n + 1)]
        for share in (0.02, 0.1, 0.5, 0.9, 0.98):
            chances = [_binomial(k, n, share) for k in range(n + 1)]
            held = [
                c for c, (low, high) in zip(chances, limits, strict=True) if low <= share <= high
            ]
            assert sum(held) >= 0.95


def _binomial(k, n, share):
    from math import comb

    return comb(n, k) * share**k * (1 - share) ** (n - k)


def test_the_difference_of_equal_groups_covers_zero():
    value, error, both, patients = two_sides(clustered_normal)
    low, high = studentised.limits(value, error, both)
    assert np.mean((low <= 0) & (high >= 0)) >= 0.90
    alarms = studentised.p_values(value, error, both, patients) < 0.05
    assert (alarms == ((low > 0) | (high < 0))).all()


def test_skewed_values_of_equal_groups_raise_few_more_alarms():
    def skewed(patients, images, icc, seed):
        return np.exp(clustered_normal(patients, images, icc, seed))

    value, error, both, patients = two_sides(skewed)
    alarms = studentised.p_values(value, error, both, patients) < 0.05
    assert 0.01 <= alarms.mean() <= 0.09


def two_sides(values_of):
    """Difference of 40 and 80 patients from the same law, its error and its resamples."""
    sides = []
    for seed, patients in enumerate((40, 80)):
        values = values_of(patients, 6, 0.4, seed)
        sums = values.sum(axis=1), np.full((patients, REPEATS), 6.0)
        sides.append(resampled(*sums, seed, "side"))
    (first, own), (second, other) = sides
    value = np.array([first.linear(k).value - second.linear(k).value for k in range(REPEATS)])
    error = np.hypot(first.error, second.error)
    return value, error, own.against(other), first.patients


def a_run(values, copies, metric="psnr"):
    """Patients with the given values, one list each; every image `copies` times."""
    flat = [(f"p{p:03d}", v) for p, row in enumerate(values) for v in row for _ in range(copies)]
    patients, numbers = zip(*flat, strict=True)
    ids = [f"c{k:05d}" for k in range(len(flat))]
    cases = pd.DataFrame({"case_id": ids, "patient_id": patients, "split": "test"})
    cases["sex"] = np.where(cases["patient_id"].str[-1].isin(list("02468")), "F", "M")
    records = pd.DataFrame(
        {"case_id": ids, "probe": "clean", "kind": "clean", "level": 0.0, "metric": metric,
         "value": np.array(numbers, dtype=float)}
    )  # fmt: skip
    failures = pd.DataFrame({name: pd.Series(dtype=str) for name in ("case_id", "probe")})
    manifest = {
        "seed": 3, "metrics": {metric: {"better": "higher", "patient": "mean", "unit": ""}},
        "probes": [{"name": "clean", "kind": "clean", "level": 0.0, "ball": None}],
        "subgroups": [["sex"]],
    }  # fmt: skip
    return estimate_run(records, cases, failures, manifest)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("binary", [True, False])
def test_copying_every_image_ten_times_buys_no_confidence(images, binary):
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2, (60, images)) if binary else rng.normal(30, 2, (60, images))
    once, often = a_run(values, 1), a_run(values, 10)
    assert once["patients"].tolist() == often["patients"].tolist() == [60, 30, 30]
    np.testing.assert_allclose(once["value"], often["value"])
    width, wider = (table["high"] - table["low"] for table in (once, often))
    assert (wider >= width * (1 - 1e-4)).all()
    apart, as_far = (table["difference_high"] - table["difference_low"] for table in (once, often))
    assert (as_far >= apart * (1 - 1e-4))[1:].all()
    assert (often["p"] >= once["p"] * (1 - 1e-4))[1:].all()


shares = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@settings(deadline=None, derandomize=True)
@given(shares)
def test_intervals_of_shares_hold_the_share_and_stay_between_0_and_1(pairs):
    successes = np.array([min(pair) for pair in pairs], dtype=float)
    cases = np.array([max(pair) for pair in pairs], dtype=float)
    found = of_share(successes, cases)
    assert np.isnan(found.value) == (not cases.any())
    if cases.any():
        assert 0 <= found.low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.high <= 1


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_patients_moves_no_share(values, random):
    flags = [float(value > 0) for value in values]
    cases = np.array([2.0 + (value > 100) for value in values])
    order = random.sample(range(len(values)), len(values))
    one = of_share(np.array(flags), cases)
    other = of_share(np.array(flags)[order], cases[order])
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)
