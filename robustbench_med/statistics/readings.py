"""What is read off the scores: each metric itself, and the figures that are made from it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from robustbench_med.statistics.agreement_limits import limits_of_agreement
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.detection import DETECTION, SMOOTH_ECE, Figure, detection_scores
from robustbench_med.statistics.estimate import Estimate
from robustbench_med.statistics.patients import Ids, PatientSums, patient_sums
from robustbench_med.statistics.portion import Portion, of_linears, of_sums
from robustbench_med.statistics.scores import (
    Better,
    Flags,
    Meaning,
    ProbeEntry,
    Scores,
    at,
    badness,
)

Measure = Callable[[Scores, Ids, Flags], Portion]
Interval = Callable[[Scores, Ids, Flags, Portion, int], Estimate | None]
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Reading:
    """One row of figures under every probe: a metric, or what is made from it.

    Attributes:
        metric: Name in the table of estimates.
        better: What a good value is.
        limits: Between which values lie by definition; None where nothing is said.
        scores: Whose cases are counted and measured.
        measure: Makes the estimates of the chosen cases.
        share: Whether it is a share of 0/1 values.
        interval: Makes an estimate with an interval of its own; None where the bootstrap does.
        by_patient: Whether it is a ratio of what patients add, so that any group has one.
    """

    metric: str
    better: Better
    limits: tuple[float, float] | None
    scores: Scores
    measure: Measure
    share: bool = False
    interval: Interval | None = None
    by_patient: bool = True

    @property
    def probes(self) -> tuple[ProbeEntry, ...]:
        """Under which it is read."""
        return self.scores.probes

    def of(self, patient_ids: Ids, chosen: Flags) -> Portion:
        """Estimate every probe from the chosen cases.

        Args:
            patient_ids: `(c,)`, whose each case is, equal ones side by side.
            chosen: `(c,)`, at least one.
        """
        return self.measure(self.scores, patient_ids, chosen)


def readings_of(scores: Sequence[Scores]) -> list[Reading]:
    """List each metric and, after it, what is made from it."""
    return [reading for found in scores for reading in _of_one(found)]


def _of_one(scores: Scores) -> Iterator[Reading]:
    meaning = scores.meaning
    yield _plain(scores)
    if meaning.tolerance is not None:
        yield _failure(scores, meaning.tolerance)
    if meaning.better == "zero":
        for place, name in enumerate(("loa_low", "loa_high")):
            measure = partial(_agreement, place=place)
            yield Reading(
                f"{scores.metric}.{name}", "zero", None, scores, measure, by_patient=False
            )
    if meaning.reads == "detection" and scores.truth is not None:
        yield from (_plain(found) for found in detection_scores(scores))
        for name, figure in DETECTION.items():
            yield _figure(scores, name, figure)
        yield from (_figure(one, "smooth_ece", SMOOTH_ECE) for one in _clean(scores))


def _figure(scores: Scores, name: str, figure: Figure) -> Reading:
    return Reading(
        f"{scores.metric}.{name}", figure.better, figure.limits, scores, figure.measure,
        interval=figure.interval, by_patient=False,
    )  # fmt: skip


def _clean(scores: Scores) -> Iterator[Scores]:
    for place, probe in enumerate(scores.probes):
        if probe.kind == "clean":
            yield at(scores, [place])


def _plain(scores: Scores) -> Reading:
    return Reading(
        scores.metric,
        scores.meaning.better,
        scores.meaning.limits,
        scores,
        _sums,
        share=scores.zero_one,
    )


def _sums(scores: Scores, patient_ids: Ids, chosen: Flags) -> Portion:
    return of_sums(patient_sums(scores, patient_ids, chosen))


def _failure(scores: Scores, tolerance: float) -> Reading:
    """The share of patients, or of cases where each counts by itself, beyond the tolerance."""
    name = f"{scores.metric}.failure"
    meaning = Meaning("lower", "mean", SHARE)
    if scores.meaning.patient == "mean":
        flags = _beyond(scores.values, scores.meaning.better, tolerance)
        flagged = replace(scores, metric=name, meaning=meaning, values=flags, penalised=None)
        return _plain(flagged)
    measure = partial(_failing_patients, tolerance=tolerance)
    return Reading(name, "lower", SHARE, scores, measure, share=True)


def _failing_patients(scores: Scores, patient_ids: Ids, chosen: Flags, tolerance: float) -> Portion:
    sums = patient_sums(scores, patient_ids, chosen)
    held = sums.denominator > 0
    values = np.where(held, sums.numerator, np.nan)
    flags = np.nan_to_num(_beyond(values, scores.meaning.better, tolerance))
    return of_sums(PatientSums(flags, held.astype(np.float64)))


def _beyond(values: Floats, better: Better, tolerance: float) -> Floats:
    limit = badness(np.array(tolerance), better)
    worse = badness(values, better) > limit
    return np.where(np.isnan(values), np.nan, worse.astype(np.float64))


def _agreement(scores: Scores, patient_ids: Ids, chosen: Flags, place: int) -> Portion:
    """Limits of agreement, from the values that patients have under each probe."""
    sums = patient_sums(scores, patient_ids, chosen)
    patients = len(sums.numerator)
    by_case = scores.meaning.patient == "mean"
    values = scores.values[chosen] if by_case else _of_patients(sums)
    ids = patient_ids[chosen]
    whose = np.cumsum(np.concatenate([[False], ids[1:] != ids[:-1]]))
    who = whose if by_case else np.arange(patients)
    held = sums.denominator > 0
    found = []
    for column in values.T:
        known = np.isfinite(column)
        found.append(limits_of_agreement(column[known], who[known], patients)[place])
    return of_linears(found, held, held.sum(axis=0))


def _of_patients(sums: PatientSums) -> Floats:
    return np.where(sums.denominator > 0, sums.numerator, np.nan)
