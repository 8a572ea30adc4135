"""What is certain of each patient's clinical measures: certificates of slices, put together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.clinical import PatientLimits, patient_limits
from robustbench_med.statistics.attacked_counts import (
    LABELS,
    Counts,
    attacked_counts,
    reached_counts,
)
from robustbench_med.statistics.body import body_of

Interval = tuple[float, float]
PHASES = ("ED", "ES")
READ = {"lvef": 1, "lvm": 2, "rvef": 3}
"""Measures, and the label of `clinical` that each is made of."""
FEWEST_SLICES = 3
"""From which on a heart's own volume may be meant: one slice or two have none."""

UNANSWERED = "a slice failed or is not supported"
UNASKED = "the certificate was not put to every slice"
UNPAIRED = "not the same slices at both phases"
UNSIZED = "no spacing, or not one for all slices"


@dataclass(frozen=True)
class Certain:
    """One patient under one certificate.

    Attributes:
        patient_id: Whose.
        left_out: Why there are no limits; empty where there are.
        limits: By measure (`lvef`, `lvm`, `rvef`), what the certificates of all slices at both
            phases bound it by; %, g. Mass only where three slices or more lie side by side.
        clean: The same of the answers to the images as they are.
        reached: What attacks of the same ball reached, each slice for itself; without a measure
            where not every slice has a count under attack.
        diagnoses: That the rules can still give, walls unknown; None where body surface or sex
            is not known, or a class is missing.
        outside: Counts under attack that the certificates exclude: 0, or a proof is refuted.
    """

    patient_id: str
    left_out: str = ""
    limits: Mapping[str, Interval] | None = None
    clean: Mapping[str, float] | None = None
    reached: Mapping[str, Interval] | None = None
    diagnoses: frozenset[str] | None = None
    outside: int = 0


def certain_measures(
    records: pd.DataFrame, cases: pd.DataFrame, manifest: Mapping[str, Any], probe: str
) -> list[Certain]:
    """Put the slices of every patient together, in the order of their ids.

    Args:
        records: Of the run: the certificate's `least.K`, `most.K`, `answer.K` and `voxel_ml`,
            and of attacks in its ball the `predicted` counts of metrics that have them.
        cases: With the attribute `phase`, `ED` or `ES`. Read where there: `z`, the number of a
            slice; `bsa_m2`, or `height_cm` and `weight_kg`; `sex`, `F` or `M`.
        manifest: With `task`, `metrics` and `probes`.
        probe: Name of the certificate.

    Returns:
        One per patient with a slice at either phase; none where no class is called `lv`, no case
        has such a phase, or the certificate has no limits of counts.
    """
    labels = _labels(manifest["task"]["classes"])
    said = records[records["probe"] == probe]
    known = said.pivot(index="case_id", columns="metric", values="value")  # noqa: PD010 (NaN stays)
    first = next((k for k, label in labels.items() if label == 1), None)
    if first is None or f"least.{first}" not in known or "phase" not in cases:
        return []
    phase = cases["phase"].astype(str).str.upper()
    slices = cases.assign(phase=phase)[phase.isin(PHASES)]
    attacked = attacked_counts(records, manifest, probe)
    return [
        _patient(str(name), part, _Said(known, labels, attacked))
        for name, part in slices.groupby("patient_id", sort=True)
    ]


@dataclass(frozen=True)
class _Said:
    """What is recorded of slices, a row each: by the certificate, and of counts under attack."""

    known: pd.DataFrame
    labels: Mapping[int, int]
    attacked: Mapping[int, pd.DataFrame]


def _patient(name: str, slices: pd.DataFrame, said: _Said) -> Certain:
    slices = slices.sort_values("case_id")
    reason = _left_out(slices, said.known)
    if reason:
        return Certain(name, reason)
    proved = _pairs(slices, said, "least", "most")
    answered = _pairs(slices, said, "answer", "answer")
    at_ed = (slices["phase"] == PHASES[0]).to_numpy()
    voxel = float(said.known["voxel_ml"][slices["case_id"].iloc[0]])
    limits, clean = (_limits(counts, at_ed, voxel) for counts in (proved, answered))
    shown = _shown(slices, said.labels)
    counts, outside = reached_counts(said.attacked, slices["case_id"], proved, answered)
    tried = None if counts is None else _limits(counts, at_ed, voxel)
    found = {m: getattr(tried, m) for m in shown if tried and READ[m] in said.attacked}
    return Certain(
        name,
        limits={m: getattr(limits, m) for m in shown},
        clean={m: getattr(clean, m)[0] for m in shown},
        reached={m: ends for m, ends in found.items() if np.isfinite(ends).all()},
        diagnoses=_diagnoses(limits, slices) if len(shown) == len(READ) else None,
        outside=outside,
    )


def _left_out(slices: pd.DataFrame, known: pd.DataFrame) -> str:
    of_each = known.reindex(slices["case_id"])
    counts = of_each[[c for c in known if str(c).partition(".")[0] in ("least", "most")]]
    phases = [slices[slices["phase"] == phase] for phase in PHASES]
    sizes = of_each["voxel_ml"] if "voxel_ml" in known else pd.Series([math.nan])
    paired = _places(phases[0]) == _places(phases[1]) and len(phases[0]) == len(phases[1])
    reasons = (
        (UNPAIRED, not paired),
        (UNASKED, not set(slices["case_id"]) <= set(known.index)),
        (UNANSWERED, bool(counts.isna().any(axis=None))),
        (UNSIZED, bool(sizes.isna().any()) or len(set(sizes)) != 1),
    )
    return next((reason for reason, holds in reasons if holds), "")


def _pairs(slices: pd.DataFrame, said: _Said, low: str, high: str) -> Counts:
    """Two counts of each class that `clinical` knows, `(slices, 4, 2)`; 0 of those not there."""
    counts = np.zeros((len(slices), 4, 2), dtype=np.int64)
    rows = said.known.loc[slices["case_id"]]
    for index, label in said.labels.items():
        ends = rows[f"{low}.{index}"], rows[f"{high}.{index}"]
        counts[:, label] = np.stack(ends, axis=1).astype(np.int64)
    return counts


def _limits(counts: Counts, at_ed: NDArray[np.bool_], voxel_ml: float) -> PatientLimits:
    # Only the volume of a voxel counts here, so any box of that volume will do.
    return patient_limits(counts[at_ed], counts[~at_ed], (1000 * voxel_ml, 1, 1))


def _labels(classes: Sequence[str]) -> dict[int, int]:
    """Which of the task's classes `clinical` knows, by index."""
    names = {index: LABELS.get(str(name).lower()) for index, name in enumerate(classes)}
    return {index: label for index, label in names.items() if label is not None}


def _shown(slices: pd.DataFrame, labels: Mapping[int, int]) -> list[str]:
    """Measures of classes that are there; a mass only of slices without a gap between two."""
    there = [measure for measure, label in READ.items() if label in labels.values()]
    places = _places(slices)
    whole = not places or places[-1] - places[0] + 1 == len(set(places))
    whole = whole and len(slices) >= len(PHASES) * FEWEST_SLICES
    return [measure for measure in there if whole or measure != "lvm"]


def _places(slices: pd.DataFrame) -> list[float]:
    """Numbers of slices, rising; nothing where they are not known of all."""
    if "z" not in slices:
        return []
    numbers = pd.to_numeric(slices["z"], errors="coerce")
    return [] if numbers.isna().any() else sorted(numbers.tolist())


def _diagnoses(limits: PatientLimits, slices: pd.DataFrame) -> frozenset[str] | None:
    body = body_of(slices.iloc[0])
    if body is None:
        return None
    found = limits.diagnoses(bsa=body[0], male=body[1])
    return frozenset(name for name in found if name is not None)
