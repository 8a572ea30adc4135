"""How far probabilities are to be believed: recalibration, and observed over expected."""

import numpy as np
from scipy.special import expit, log_expit

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.linear import Linear, ratio, undefined
from robustbench_med.statistics.scores import Counts, Flags

LEAST = 1e-7
STEPS = 100
NEAR = 1e-7


def calibration(
    score: Floats, positive: Flags, patient: Counts, patients: int
) -> tuple[Linear, Linear]:
    """Fit how the log odds of the class hang on the log odds of the score.

    The intercept, also called calibration in the large, is fitted with the slope held at 1;
    0 is best, above 0 the class is commoner than predicted. The slope is fitted with an
    intercept of its own; 1 is best, below 1 the scores are too extreme.

    The influences are each patient's sum of scores times the inverse information. Undefined:
    both if a class is missing; the slope also where the classes do not overlap (it would be
    infinite) or all scores are equal.

    Args:
        score: `(c,)`, probability of the class, clipped to `LEAST` from 0 and 1.
        positive: `(c,)`, whether the class is present.
        patient: `(c,)`, positions 0 to `patients` - 1.
        patients: How many influences to return.

    Returns:
        Intercept and slope.

    Source: Cox, Biometrika 1958, 45:562-565; Van Calster et al., BMC Medicine 2019, 17:230;
        clusters: Liang and Zeger, Biometrika 1986, 73:13-22, independence working model;
        overlap: Albert and Anderson, Biometrika 1984, 71:1-10.
    """
    if positive.all() or not positive.any():
        return undefined(patients), undefined(patients)
    odds = log_odds(score)
    one = np.ones((len(odds), 1))
    intercept = _fit(one, odds, positive, patient, patients)
    if not _overlap(odds, positive):
        return intercept, undefined(patients)
    both = np.column_stack([one, odds - odds.mean()])
    return intercept, _fit(both, np.zeros(len(odds)), positive, patient, patients)


def observed_expected(score: Floats, positive: Flags, patient: Counts, patients: int) -> Linear:
    """Cases with the class over the sum of their probabilities; 1 is best.

    Arguments as for `calibration`. Intervals belong on the log scale.

    Source: Riley et al., BMJ 2016, 353:i3140 (observed over expected events).
    """
    observed = np.bincount(patient, positive, minlength=patients)
    expected = np.bincount(patient, score.clip(LEAST, 1 - LEAST), minlength=patients)
    return ratio(observed.astype(np.float64), expected.astype(np.float64))


def log_odds(score: Floats) -> Floats:
    """`(c,)` log(p / (1 - p)), with probabilities kept `LEAST` away from 0 and 1."""
    kept = score.astype(np.float64).clip(LEAST, 1 - LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _overlap(odds: Floats, positive: Flags) -> bool:
    above, below = odds[positive], odds[~positive]
    return bool(above.min() < below.max() and below.min() < above.max())


def _fit(design: Floats, offset: Floats, positive: Flags, patient: Counts, patients: int) -> Linear:
    """Fit a logistic regression; return its last coefficient."""
    beta = _maximise(design, offset, positive)
    chance = expit(offset + design @ beta)
    spread = (chance * (1 - chance))[:, None] * design
    residual = positive - chance
    pulls = np.column_stack(
        [np.bincount(patient, residual * column, minlength=patients) for column in design.T]
    )
    influence = np.linalg.solve(design.T @ spread, pulls.T)[-1]
    return Linear(float(beta[-1]), influence, len(np.unique(patient)))


def _maximise(design: Floats, offset: Floats, positive: Flags) -> Floats:
    """Newton's method; steps that overshoot are halved, for the likelihood is concave."""
    sign = np.where(positive, 1.0, -1.0)
    beta = np.zeros(design.shape[1])
    best = log_expit(sign * offset).sum()
    for _ in range(STEPS):
        chance = expit(offset + design @ beta)
        spread = (chance * (1 - chance))[:, None] * design
        step = np.linalg.solve(design.T @ spread, design.T @ (positive - chance))
        # Near the top rounding hides the rise; Newton's step is then right to all digits.
        if np.abs(step).max() < NEAR:
            return beta + step
        while (tried := log_expit(sign * (offset + design @ (beta + step))).sum()) < best:
            step /= 2
        beta, best = beta + step, tried
    return beta
