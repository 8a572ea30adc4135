"""From cases to patients: what each patient adds to a ratio of sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import Counts, Flags, ProbeEntry, Scores, badness

Ids = NDArray[np.intp]
"""Whose each case is, as a position; equal ones side by side."""


@dataclass(frozen=True)
class PatientSums:
    """What `p` patients add to the numerator and denominator of `q` estimates.

    An estimate is the sum of the one over the sum of the other. Where the denominator is 0
    the patient has no defined value.

    Attributes:
        numerator: `(p, q)`.
        denominator: `(p, q)`.
    """

    numerator: Floats
    denominator: Floats


def patient_sums(scores: Scores, patient_ids: Ids, chosen: Flags) -> PatientSums:
    """Aggregate the chosen cases by patient, as the metric's `patient` says.

    "mean": the sum over cases and their number, so that the estimate is the mean over cases.
    "sum": the patient's sum over the chosen cases the probe was put to, counted once; undefined
    if any of them is, because part of a sum is not the sum. "dice": twice the shared voxels over
    predicted plus true voxels, summed over those cases before dividing, counted once.

    Args:
        scores: Of one metric, `(c, q)`.
        patient_ids: `(c,)`, whose each case is, equal ones side by side.
        chosen: `(c,)`, cases of the group; at least one.
    """
    ids = patient_ids[chosen]
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    asked = scores.asked[chosen]
    if scores.meaning.patient == "dice" and scores.parts is not None:
        found = _dice(scores.parts[:, chosen], asked, starts)
        return _no_better_than_one_attack(scores, found, _add(asked, starts))
    if scores.meaning.patient == "sum":
        found = _once(*_totals(scores.values[chosen], asked, starts))
        return _no_better_than_one_attack(scores, found, _add(asked, starts))
    values = scores.values[chosen]
    defined = ~np.isnan(values)
    return PatientSums(_add(np.where(defined, values, 0.0), starts), _add(defined, starts))


def _dice(parts: Floats, asked: Flags, starts: Counts) -> PatientSums:
    totals = [_totals(part, asked, starts) for part in parts]
    (shared, whole), (predicted, _), (true, _) = totals
    size = predicted + true
    dice = np.divide(2 * shared, size, out=np.zeros_like(size), where=size > 0)
    return _once(dice, whole & (size > 0))


def _no_better_than_one_attack(scores: Scores, found: PatientSums, asked: Floats) -> PatientSums:
    """Let the worst case of a patient be at least as bad as the patient under any one probe.

    The worst slices one by one need not make the worst sum; an attack's own slices together
    lie in the ball just as well. Only probes put to the same cases of a patient compare.
    """
    values, defined = found.numerator.copy(), found.denominator > 0
    for place, probe in enumerate(scores.probes):
        if probe.kind == "worst":
            for rival in _rivals(scores, probe):
                same = defined[:, rival] & defined[:, place] & (asked[:, rival] == asked[:, place])
                bad = badness(values, scores.meaning.better)
                worse = bad[:, rival] > bad[:, place]
                values[:, place] = np.where(same & worse, values[:, rival], values[:, place])
    return PatientSums(values, found.denominator)


def _rivals(scores: Scores, worst: ProbeEntry) -> list[int]:
    return [
        place
        for place, probe in enumerate(scores.probes)
        if probe.kind == "clean" or (probe.kind == "attack" and probe.ball == worst.ball)
    ]


def _totals(values: Floats, asked: Flags, starts: Counts) -> tuple[Floats, Flags]:
    missing = np.isnan(values)
    totals = _add(np.where(missing, 0.0, values), starts)
    whole = (_add(asked, starts) > 0) & (_add(asked & missing, starts) == 0)
    return totals, whole


def _once(values: Floats, defined: Flags) -> PatientSums:
    return PatientSums(np.where(defined, values, 0.0), defined.astype(np.float64))


def _add(values: NDArray[np.generic], starts: Counts) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.add.reduceat(values.astype(np.float64), starts, axis=0)
