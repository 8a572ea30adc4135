"""Figures of how well a finding is detected, from the probability given to the truth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from robustbench_med.statistics.auc import auc, auc_interval
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.calibration import calibration, observed_expected
from robustbench_med.statistics.estimate import OBUCHOWSKI, Estimate
from robustbench_med.statistics.linear import Linear
from robustbench_med.statistics.patients import Ids
from robustbench_med.statistics.portion import Portion, of_linears
from robustbench_med.statistics.scores import Better, Flags, Meaning, Scores

SHARE = (0.0, 1.0)
OfCases = Callable[[Floats, Flags, Ids, int], Linear]


@dataclass(frozen=True)
class Figure:
    """A figure of all cases together.

    Attributes:
        better: What a good value is.
        limits: Between which it lies by definition.
        of_cases: Makes it from score, positive, patient and the number of patients.
        interval: Makes an estimate of it from the number of patients on the smaller side, where
            the bootstrap's interval is not the best.
    """

    better: Better
    limits: tuple[float, float] | None
    of_cases: OfCases
    interval: Callable[[Linear, int], Estimate] | None = None

    def measure(self, scores: Scores, patient_ids: Ids, chosen: Flags) -> Portion:
        """Make the figure of the chosen cases under every probe."""
        truth, ids = truth_of(scores)[chosen], patient_ids[chosen]
        whose = np.cumsum(np.concatenate([[False], ids[1:] != ids[:-1]]))
        patients = int(whose[-1]) + 1
        found, held, deciding = [], [], []
        for given in scores.values[chosen].T:
            known = ~np.isnan(given) & ~np.isnan(truth)
            positive = truth[known] == 1
            score = np.where(positive, given[known], 1 - given[known])
            found.append(self.of_cases(score, positive, whose[known], patients))
            held.append(np.bincount(whose[known], minlength=patients) > 0)
            sides = [len(set(whose[known][side].tolist())) for side in (positive, ~positive)]
            deciding.append(min(sides))
        return of_linears(found, np.stack(held, axis=1), np.array(deciding))


def truth_of(scores: Scores) -> Floats:
    """Where what is to be found is there, `(c,)`; NaN where nothing is known."""
    return np.full(len(scores.values), np.nan) if scores.truth is None else scores.truth


def _intercept(score: Floats, positive: Flags, patient: Ids, patients: int) -> Linear:
    return calibration(score, positive, patient, patients)[0]


def _slope(score: Floats, positive: Flags, patient: Ids, patients: int) -> Linear:
    return calibration(score, positive, patient, patients)[1]


def _auc_estimate(linear: Linear, smaller: int) -> Estimate:
    low, high = auc_interval(linear, smaller)
    return Estimate(linear.value, low, high, "" if np.isnan(low) else OBUCHOWSKI)


DETECTION = {
    "auc": Figure("higher", SHARE, auc, _auc_estimate),
    "calibration_intercept": Figure("zero", None, _intercept),
    "calibration_slope": Figure("one", None, _slope),
    "observed_expected": Figure("one", None, observed_expected),
}


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
