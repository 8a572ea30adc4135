"""From the long tables of a run to `Scores`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.components import suggest
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import (
    Better,
    Counts,
    Flags,
    Meaning,
    ProbeEntry,
    Scores,
)

PARTS = ("shared", "predicted", "true")
PROOFS: dict[str, Better] = {
    "certified": "higher",
    "falsified": "lower",
    "undecided": "lower",
    "margin_bound": "higher",
    "checked": "higher",
    "abstained": "lower",
    "radius": "higher",
    "nmse_limit": "lower",
    "nmse_clean": "lower",
    "worst_pixel_limit": "lower",
}


COUNTS = ("least", "most", "answer", "voxel_ml")
"""Of a class's voxels, proved and answered, and their size: what measures are made of, no measures
themselves."""


@dataclass(frozen=True)
class _Coded:
    """The long tables with cases and probes as positions."""

    probes: tuple[ProbeEntry, ...]
    case: Counts
    probe: Counts
    value: Floats
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
    kept = kept.assign(patient_id=kept["patient_id"].astype(str))  # a category sorts as it likes
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
    found -= {name for name in found if name.partition(".")[0] in COUNTS}
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
    case, probe = _places(records["case_id"], cases["case_id"]), _probes(records, names)
    value = records["value"].to_numpy(dtype=np.float64)
    defined = ~np.isnan(value)  # a case with a value did not fail, whatever else is told of it
    failed[case[defined], probe[defined]] = False
    return _Coded(
        probes,
        case,
        probe,
        value,
        _rows_by_metric(records),
        failed,
    )


def _rows_by_metric(records: pd.DataFrame) -> dict[str, Counts]:
    codes, names = pd.factorize(records["metric"])
    return {str(name): np.flatnonzero(codes == place) for place, name in enumerate(names)}


def _places(wanted: pd.Series, known: Sequence[str] | pd.Series) -> Counts:
    """Positions of texts among known ones, -1 for strangers; each text is looked up once."""
    codes, names = pd.factorize(wanted)
    places = pd.Index(known).get_indexer(pd.Index(np.asarray(names, dtype=object)))
    return places[codes] if len(places) else np.empty(0, dtype=np.intp)


def _probes(table: pd.DataFrame, names: Sequence[str]) -> Counts:
    places = _places(table["probe"], names)
    if (places < 0).any():
        stranger = table["probe"].iloc[int(np.argmax(places < 0))]
        raise InputError(
            f"records: probe {stranger!r} is not in the manifest; {suggest(stranger, names)}"
        )
    return places


def _scores_of(metric: str, settings: Mapping[str, Any], coded: _Coded) -> Scores:
    values = _matrix(metric, coded)
    recorded = _recorded(metric, coded)
    kept = np.flatnonzero(recorded.any(axis=0) | _silent(metric, coded))
    meaning, parts = _meaning(settings), None
    names = [f"{metric}.{part}" for part in PARTS]
    if meaning.patient == "dice":
        if all(name in coded.rows for name in names):
            parts = np.stack([_matrix(name, coded)[:, kept] for name in names])
        else:
            meaning = replace(meaning, patient="mean")
    penalised, truth = f"{metric}.penalised", None
    if meaning.reads == "detection":
        truth = _truth(_matrix(f"{metric}.true", coded))
    return Scores(
        metric,
        meaning,
        tuple(coded.probes[place] for place in kept),
        values[:, kept],
        (recorded | coded.failed)[:, kept],
        coded.failed[:, kept],
        parts,
        (_matrix(penalised, coded) == 1)[:, kept] if penalised in coded.rows else None,
        truth,
    )


def _meaning(settings: Mapping[str, Any]) -> Meaning:
    limits, tolerance = settings.get("limits"), settings.get("tolerance")
    threshold = settings.get("threshold")
    return Meaning(
        settings["better"],
        settings.get("patient", "mean"),
        (float(limits[0]), float(limits[1])) if limits else None,
        None if tolerance is None else float(tolerance),
        settings.get("reads", ""),
        None if threshold is None else float(threshold),
    )


def _truth(flags: Floats) -> Floats:
    """What every probe says of the case; the first that says anything."""
    known = ~np.isnan(flags)
    first = np.argmax(known, axis=1)
    return np.asarray(np.where(known.any(axis=1), flags[np.arange(len(flags)), first], np.nan))


def _recorded(metric: str, coded: _Coded) -> Flags:
    rows = coded.rows.get(metric, np.empty(0, dtype=np.intp))
    recorded = np.zeros(coded.failed.shape, dtype=bool)
    recorded[coded.case[rows], coded.probe[rows]] = True
    if recorded.sum() != len(rows):
        raise IntegrityError(f"records: a case has two values of {metric!r} under one probe")
    return recorded


def _silent(metric: str, coded: _Coded) -> Flags:
    """Probes without any record that should have had this metric: all their cases failed."""
    heard = np.bincount(coded.probe, minlength=len(coded.probes)) > 0
    proofs = np.array([probe.kind == "certificate" for probe in coded.probes])
    due = proofs if metric == "certified" else ~proofs & (metric not in PROOFS)
    return ~heard & due


def _matrix(metric: str, coded: _Coded) -> Floats:
    matrix = np.full(coded.failed.shape, np.nan)
    rows = coded.rows.get(metric, np.empty(0, dtype=np.intp))
    matrix[coded.case[rows], coded.probe[rows]] = coded.value[rows]
    return matrix
