"""From the long tables of a run to `Scores`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.components import suggest
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import Better, Counts, Flags, ProbeEntry, Scores

PARTS = ("shared", "predicted", "true")
PROOFS: dict[str, Better] = {
    "certified": "higher",
    "falsified": "lower",
    "undecided": "lower",
    "margin_bound": "higher",
}


@dataclass(frozen=True)
class _Coded:
    """The long tables with cases and probes as positions."""

    probes: tuple[ProbeEntry, ...]
    case: Counts
    probe: Counts
    values: Floats
    rows: Mapping[str, Counts]
    failed: Flags


def asked_cases(records: pd.DataFrame, cases: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    """Keep the cases that any probe was put to, ordered by patient and case.

    Raises:
        InputError: If a case id stands twice in the cases table or is missing from it.
    """
    if cases["case_id"].duplicated().any():
        twice = cases.loc[cases["case_id"].duplicated(), "case_id"].iloc[0]
        raise InputError(f"cases: expected every case id once, got {twice!r} again")
    asked = pd.Index(pd.unique(pd.concat([records["case_id"], failures["case_id"]])))
    strangers = asked.difference(cases["case_id"])
    if len(strangers):
        raise InputError(f"records: case {strangers[0]!r} is not in the cases table")
    kept = cases[cases["case_id"].isin(asked)]
    return kept.sort_values(["patient_id", "case_id"]).reset_index(drop=True)


def read_scores(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> list[Scores]:
    """Turn the records into one `Scores` per metric: the manifest's, then the certificates'.

    Args:
        records: `case_id, probe, kind, level, metric, value`.
        cases: From `asked_cases`.
        failures: `case_id, probe, kind, error, message`.
        manifest: With `metrics` and `probes`.

    Raises:
        InputError: If a record's probe is not in the manifest.
        IntegrityError: If a case has two values of one metric under one probe.
    """
    coded = _code(records, cases, failures, manifest)
    settings: dict[str, Mapping[str, Any]] = dict(manifest["metrics"])
    for name in _certificate_metrics(records, manifest):
        settings.setdefault(name, {"better": PROOFS.get(name, "higher")})
    scores = (_scores_of(name, settings[name], coded) for name in settings)
    return [found for found in scores if found.probes]


def _certificate_metrics(records: pd.DataFrame, manifest: Mapping[str, Any]) -> list[str]:
    found = set(records.loc[records["kind"] == "certificate", "metric"].unique())
    if any(entry["kind"] == "certificate" for entry in manifest["probes"]):
        found.add("certified")
    found -= {name for name in found if name.rpartition(".")[0] in {*found, *manifest["metrics"]}}
    return [*(name for name in PROOFS if name in found), *sorted(found - set(PROOFS))]


def _code(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> _Coded:
    probes = tuple(
        ProbeEntry(entry["name"], entry["kind"], float(entry["level"]), entry.get("ball"))
        for entry in manifest["probes"]
    )
    names = [probe.name for probe in probes]
    failed = np.zeros((len(cases), len(probes)), dtype=bool)
    failed[_places(failures["case_id"], cases["case_id"]), _probes(failures, names)] = True
    return _Coded(
        probes,
        _places(records["case_id"], cases["case_id"]),
        _probes(records, names),
        records["value"].to_numpy(dtype=np.float64),
        _rows_by_metric(records),
        failed,
    )


def _rows_by_metric(records: pd.DataFrame) -> dict[str, Counts]:
    found = records.groupby("metric", sort=False).indices
    return {str(metric): np.asarray(rows, dtype=np.intp) for metric, rows in found.items()}


def _places(wanted: pd.Series, known: Sequence[str] | pd.Series) -> Counts:
    return pd.Index(known).get_indexer(pd.Index(wanted))


def _probes(table: pd.DataFrame, names: Sequence[str]) -> Counts:
    places = _places(table["probe"], names)
    if (places < 0).any():
        stranger = table["probe"].iloc[int(np.argmax(places < 0))]
        raise InputError(
            f"records: probe {stranger!r} is not in the manifest; {suggest(stranger, names)}"
        )
    return places


def _scores_of(metric: str, settings: Mapping[str, Any], coded: _Coded) -> Scores:
    recorded = ~np.isnan(_matrix(metric, coded, np.ones_like(coded.values)))
    if recorded.sum() != len(coded.rows.get(metric, ())):
        raise IntegrityError(f"records: a case has two values of {metric!r} under one probe")
    kept = np.flatnonzero(recorded.any(axis=0) | _silent(metric, coded))
    patient = settings.get("patient", "mean")
    parts = None
    if patient == "dice":
        names = [f"{metric}.{part}" for part in PARTS]
        if all(name in coded.rows for name in names):
            parts = np.stack([_matrix(name, coded, coded.values)[:, kept] for name in names])
        else:
            patient = "mean"
    return Scores(
        metric,
        settings["better"],
        patient,
        tuple(coded.probes[place] for place in kept),
        _matrix(metric, coded, coded.values)[:, kept],
        (recorded | coded.failed)[:, kept],
        coded.failed[:, kept],
        parts,
    )


def _silent(metric: str, coded: _Coded) -> Flags:
    """Probes without any record that should have had this metric: all their cases failed."""
    heard = np.bincount(coded.probe, minlength=len(coded.probes)) > 0
    proofs = np.array([probe.kind == "certificate" for probe in coded.probes])
    due = proofs if metric == "certified" else ~proofs & (metric not in PROOFS)
    return ~heard & due


def _matrix(metric: str, coded: _Coded, values: Floats) -> Floats:
    matrix = np.full(coded.failed.shape, np.nan)
    rows = coded.rows.get(metric, np.empty(0, dtype=np.intp))
    matrix[coded.case[rows], coded.probe[rows]] = values[rows]
    return matrix
