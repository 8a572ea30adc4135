"""How long the statistics of a large study take, and how much memory.

Claim: 100,000 patients under 20 stressors and 10 metrics, in 12 groups, with 2,000 resamples of the
patients, take under 2 minutes on 2 cores and under 4 GiB, with everything that `estimates.parquet`
holds: intervals, differences from the rest, changes, interactions, and p-values corrected over
groups and stressors. Beside it, on a smaller study, the same intervals drawn one by one by
scipy.stats.bootstrap.

    python benchmarks/statistics_speed.py [--patients 100000]
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from robustbench_med.statistics.study import findings_of, open_study
from robustbench_med.statistics.table import estimates_of

STRESSORS, METRICS = 20, 10
PEER_PATIENTS, PEER_COLUMNS = 2_000, 20
RESULT = Path(__file__).parent / "results" / "statistics_speed.json"


def study_tables(patients: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Records, cases and manifest of a study with one image a patient."""
    rng = np.random.default_rng(0)
    ids = pd.Categorical([f"c{k:06}" for k in range(patients)])
    cases = pd.DataFrame(
        {"case_id": ids.astype(str), "patient_id": ids.astype(str), "split": "test"}
    )
    for name, groups in (("sex", "FM"), ("age", "1234"), ("vendor", "ABC"), ("site", "xyz")):
        cases[name] = np.array(list(groups))[rng.integers(len(groups), size=patients)]
    probes = ["clean", *(f"shift{k:02}@1" for k in range(1, STRESSORS))]
    metrics = [f"metric{k}" for k in range(METRICS)]
    shape = (len(probes), len(metrics), patients)
    skill = rng.normal(0, 0.05, patients) + 0.8
    noise = rng.normal(0, 0.05, shape) - 0.005 * np.arange(len(probes))[:, None, None]
    order = np.indices(shape).reshape(3, -1)
    records = pd.DataFrame({
        "case_id": pd.Categorical.from_codes(order[2], ids.categories),
        "probe": pd.Categorical.from_codes(order[0], probes),
        "kind": pd.Categorical.from_codes(np.minimum(order[0], 1), ["clean", "shift"]),
        "level": np.minimum(order[0], 1).astype(float),
        "metric": pd.Categorical.from_codes(order[1], metrics),
        "value": (skill + noise).ravel(),
    })  # fmt: skip
    manifest = {
        "seed": 0,
        "metrics": {name: {"better": "higher", "patient": "mean"} for name in metrics},
        "probes": [{"name": name, "kind": "shift" if k else "clean", "level": float(k > 0)}
                   for k, name in enumerate(probes)],
        "subgroups": [["sex"], ["age"], ["vendor"], ["site"]],
    }  # fmt: skip
    return records, cases, manifest


def whole_study(patients: int) -> dict[str, Any]:
    """Seconds from the tables of a run to the table of estimates, and peak memory."""
    records, cases, manifest = study_tables(patients)
    failures = pd.DataFrame({"case_id": [], "probe": []}, dtype=str)
    started = time.perf_counter()
    study = open_study(records, cases, failures, manifest)
    opened = time.perf_counter()
    findings = findings_of(study, manifest["subgroups"])
    found = time.perf_counter()
    table = estimates_of(study, findings)
    ended = time.perf_counter()
    return {
        "patients": patients, "records": len(records), "groups": len(findings) - 1,
        "rows": len(table), "columns": STRESSORS * METRICS, "resamples": 2000,
        "seconds": round(ended - started, 1), "reading": round(opened - started, 1),
        "resampling": round(found - opened, 1), "table": round(ended - found, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }  # fmt: skip


def beside_scipy(repeats: int = 3) -> dict[str, Any]:
    """Intervals of the same columns, ours together and scipy's BCa one by one, interleaved."""
    values = np.random.default_rng(1).normal(size=(PEER_PATIENTS, PEER_COLUMNS))
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(_timed(lambda: _ours(values)))
        theirs.append(_timed(lambda: _scipy(values)))
    pair = float(np.median(ours)), float(np.median(theirs))
    return {
        "patients": PEER_PATIENTS, "columns": PEER_COLUMNS, "resamples": 2000,
        "seconds": round(pair[0], 3), "scipy_seconds": round(pair[1], 3),
        "times_faster": round(pair[1] / pair[0], 1),
    }  # fmt: skip


def _ours(values: np.ndarray) -> None:
    from robustbench_med.statistics import studentised
    from robustbench_med.statistics.bootstrap import draw_patients, replicate
    from robustbench_med.statistics.patients import PatientSums
    from robustbench_med.statistics.portion import of_sums

    portion = of_sums(PatientSums(values, np.ones_like(values)))
    table = draw_patients(len(values), np.random.default_rng(0))
    replicates = replicate(table, portion.influence, portion.held)
    studentised.limits(portion.values, portion.error, replicates)


def _scipy(values: np.ndarray) -> None:
    for column in values.T:
        stats.bootstrap((column,), np.mean, n_resamples=2000, method="BCa", rng=0)


def _timed(run: Any) -> float:  # noqa: ANN401
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Measure, print and store."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--patients", type=int, default=100_000)
    given = options.parse_args()
    result = {
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "numpy": np.__version__,
        },
        "beside_scipy": beside_scipy(),
        "whole_study": whole_study(given.patients),
    }
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
