"""Figures of how well a finding is detected, from the probability given to the truth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from robustbench_med.statistics.auc import auc, auc_interval, logit_error
from robustbench_med.statistics.bootstrap import Floats, generator
from robustbench_med.statistics.calibration import calibration, observed_expected
from robustbench_med.statistics.estimate import OBUCHOWSKI, SMOOTHED, Estimate
from robustbench_med.statistics.linear import Linear
from robustbench_med.statistics.patients import Ids
from robustbench_med.statistics.portion import Portion, of_linears
from robustbench_med.statistics.scores import Better, Flags, Meaning, Scores
from robustbench_med.statistics.smooth_ece import smooth_ece, smooth_ece_interval

SHARE = (0.0, 1.0)


class Cases(NamedTuple):
    """Cases under one probe whose truth and probability are known.

    Attributes:
        score: `(c,)`, probability of what is to be found.
        positive: `(c,)`, whether it is there.
        patient: `(c,)`, positions of patients, in order.
        patients: How many these may be; some may have no such case.
    """

    score: Floats
    positive: Flags
    patient: Ids
    patients: int

    @property
    def fewer(self) -> int:
        """Patients on the smaller side: with what is to be found, or without it."""
        return min(len(np.unique(self.patient[side])) for side in (self.positive, ~self.positive))


@dataclass(frozen=True)
class Figure:
    """A figure of all cases together.

    Attributes:
        better: What a good value is.
        limits: Between which it lies by definition.
        of_cases: Makes it.
        own_interval: Makes an estimate of it, where the bootstrap's interval is not the best.
    """

    better: Better
    limits: tuple[float, float] | None
    of_cases: Callable[[Cases], Linear]
    own_interval: Callable[[Cases, Linear], Estimate] | None = None

    def measure(self, scores: Scores, patient_ids: Ids, chosen: Flags) -> Portion:
        """Make the figure of the chosen cases under every probe."""
        every = [cases_of(scores, patient_ids, chosen, k) for k in range(len(scores.probes))]
        held = [np.bincount(one.patient, minlength=one.patients) > 0 for one in every]
        deciding = np.array([one.fewer for one in every])
        return of_linears([self.of_cases(one) for one in every], np.stack(held, axis=1), deciding)

    def interval(
        self, scores: Scores, patient_ids: Ids, chosen: Flags, own: Portion, place: int
    ) -> Estimate | None:
        """Its own interval under one probe; None if the bootstrap's is wanted."""
        if self.own_interval is None:
            return None
        cases = cases_of(scores, patient_ids, chosen, place)
        return self.own_interval(cases, own.linear(place))


def cases_of(scores: Scores, patient_ids: Ids, chosen: Flags, place: int) -> Cases:
    """The chosen cases whose truth is known and that the probe gave a probability."""
    given, truth, ids = scores.values[chosen, place], truth_of(scores)[chosen], patient_ids[chosen]
    whose = np.cumsum(np.concatenate([[False], ids[1:] != ids[:-1]]))
    known = ~np.isnan(given) & ~np.isnan(truth)
    positive = truth[known] == 1
    score = np.where(positive, given[known], 1 - given[known])
    return Cases(score, positive, whose[known], int(whose[-1]) + 1)


def truth_of(scores: Scores) -> Floats:
    """Where what is to be found is there, `(c,)`; NaN where nothing is known."""
    return np.full(len(scores.values), np.nan) if scores.truth is None else scores.truth


def _auc_estimate(cases: Cases, linear: Linear) -> Estimate:
    low, high = auc_interval(linear, cases.fewer)
    error, freedom = logit_error(linear, cases.fewer)
    method = "" if np.isnan(low) else OBUCHOWSKI
    return Estimate(linear.value, low, high, method, freedom=freedom, logit_error=error)


def _smooth(cases: Cases) -> Linear:
    """Without influences: near 0 it has none, and its interval does not need them."""
    value = smooth_ece(cases.score, cases.positive)
    held = len(np.unique(cases.patient))
    return Linear(value, np.zeros(cases.patients), held)


def _smooth_estimate(cases: Cases, linear: Linear) -> Estimate:
    low, high = smooth_ece_interval(*cases, generator(0, SMOOTHED))
    return Estimate(linear.value, low, high, "" if np.isnan(low) else SMOOTHED)


DETECTION = {
    "auc": Figure("higher", SHARE, lambda cases: auc(*cases), _auc_estimate),
    "calibration_intercept": Figure("zero", None, lambda cases: calibration(*cases)[0]),
    "calibration_slope": Figure("one", None, lambda cases: calibration(*cases)[1]),
    "observed_expected": Figure("one", None, lambda cases: observed_expected(*cases)),
}
SMOOTH_ECE = Figure("lower", SHARE, _smooth, _smooth_estimate)
"""Asked of the clean images only: its resamples cost a second where others cost a millisecond."""
FIGURES = (*DETECTION, "smooth_ece")


def detection_scores(scores: Scores) -> Iterator[Scores]:
    """Sensitivity, specificity and the predictive values at the fixed threshold, as 0/1 scores.

    A rate is asked only of the cases in its denominator. Nothing where no threshold is known.
    """
    threshold, truth = scores.meaning.threshold, truth_of(scores)[:, None]
    if threshold is None:
        return
    positive = truth == 1
    score = np.where(positive, scores.values, 1 - scores.values)
    unknown = np.isnan(scores.values) | np.isnan(truth)
    called = np.where(unknown, np.nan, score >= threshold)
    for name, among in (
        ("sensitivity", np.broadcast_to(truth != 0, called.shape)),
        ("specificity", np.broadcast_to(truth != 1, called.shape)),
        ("ppv", called != 0),
        ("npv", called != 1),
    ):
        yield replace(
            scores,
            metric=f"{scores.metric}.{name}",
            meaning=Meaning("higher", "mean", SHARE),
            values=np.where(among & ~unknown, called == positive, np.nan),
            penalised=None,
            truth=None,
            among=among,
        )
