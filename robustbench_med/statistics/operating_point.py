"""The threshold that keeps a sensitivity or a specificity, and the rates at a threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import InputError
from robustbench_med.statistics.bootstrap import Counts8, Floats, draw_patients, generator
from robustbench_med.statistics.proportions import Limits
from robustbench_med.statistics.scores import Counts, Flags

ROUNDING = 1e-9
SEED = 0


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with a 95% interval, and what it rests on.

    Attributes:
        threshold: Scores from here on are called positive.
        low: Lower limit, by the patient bootstrap.
        high: Upper limit.
        rule: What it keeps, as in "sensitivity >= 0.9".
        patients: Of the split.
        positives: Cases of the split with the class.
    """

    threshold: float
    low: float
    high: float
    rule: str
    patients: int
    positives: int


def threshold_for(
    score: Floats,
    positive: Flags,
    patient: Sequence[str] | NDArray[np.generic],
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> OperatingPoint:
    """Find the threshold that keeps a rate on these cases, of a split that is not tested.

    For a sensitivity the highest that keeps it, which is one of the positive scores; for a
    specificity the lowest, which is the next number above one of the negative scores. The
    limits are of the same rule on resampled patients, drawn with a fixed seed; patients
    without a case of that class play no part in it.

    Args:
        score: `(c,)`, finite, higher for the class.
        positive: `(c,)`, whether the class is present.
        patient: `(c,)`, whose case it is: ids or positions.
        sensitivity: To be kept, above 0 and at most 1; this or the other.
        specificity: To be kept, above 0 and at most 1.

    Raises:
        InputError: If both or neither goal is given, a goal is no such share, or no case has
            (for a specificity: lacks) the class.

    Source: threshold as a quantile of one class, Pepe, The Statistical Evaluation of Medical
        Tests, 2003, section 5.2; interval as `bootstrap.percentile`.
    """
    name, goal = _goal(sensitivity, specificity)
    keeping = name == "sensitivity"
    chosen = positive if keeping else ~positive
    if not chosen.any():
        who = "no case has" if keeping else "every case has"
        raise InputError(f"threshold: {who} the class, so no threshold can keep a {name}")
    own = score[chosen]
    order = np.argsort(-own if keeping else own, kind="stable")
    edges = own[order] if keeping else np.nextafter(own[order], np.inf)
    owners = np.unique(np.asarray(patient)[chosen], return_inverse=True)[1][order]
    everyone = len(np.unique(np.asarray(patient)))
    (place,) = _reached(np.ones((1, owners.max() + 1), dtype=np.uint8), owners, goal)
    limits = _limits(edges, owners, goal)
    rule = f"{name} >= {goal:g}"
    return OperatingPoint(float(edges[place]), *limits, rule, everyone, int(positive.sum()))


def _goal(sensitivity: float | None, specificity: float | None) -> tuple[str, float]:
    goals = {"sensitivity": sensitivity, "specificity": specificity}
    given = [(name, goal) for name, goal in goals.items() if goal is not None]
    if len(given) != 1:
        got = "both" if given else "neither"
        raise InputError(f"threshold: expected a sensitivity or a specificity to keep, got {got}")
    ((name, goal),) = given
    if not 0 < goal <= 1:
        raise InputError(f"threshold: {name} must be above 0 and at most 1, got {goal:g}")
    return name, goal


def _limits(edges: Floats, owners: Counts, goal: float) -> Limits:
    count = int(owners.max()) + 1
    if count < 2:
        return math.nan, math.nan
    places = _reached(draw_patients(count, generator(SEED, "threshold")), owners, goal)
    low, high = np.quantile(edges[places], [0.025, 0.975])
    return float(low), float(high)


def _reached(drawn: Counts8, owners: Counts, goal: float) -> Counts:
    """Say, for each resample, at which case in order the share passed reaches the goal.

    Args:
        drawn: `(draws, patients)`, how often each patient was drawn.
        owners: `(c,)`, whose the cases are, in the order in which they are passed.
        goal: Share of the cases drawn.
    """
    places = np.empty(len(drawn), dtype=np.intp)
    for draw, times in enumerate(drawn):
        passed = np.cumsum(times[owners], dtype=np.int64)
        places[draw] = np.searchsorted(passed, goal * passed[-1] - ROUNDING)
    return places
