"""Area under the ROC curve of cases that share patients."""

import math

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.linear import Linear, undefined
from robustbench_med.statistics.proportions import Limits, clopper_pearson
from robustbench_med.statistics.scores import Counts, Flags

NO_SPREAD = 1e-12


def auc(score: Floats, positive: Flags, patient: Counts, patients: int) -> Linear:
    """Estimate the chance that a positive case scores above a negative one; ties count half.

    Each patient's influence has a part from its positive cases and one from its negative ones.
    Each part is scaled by its own number of patients, so that `variance` is that of the source
    for a patient-level class, and DeLong's for one case per patient. Undefined if a class is
    missing; where one patient alone carries a class, `patients` is 1 and the variance NaN.

    Args:
        score: `(c,)`, finite, higher for the class.
        positive: `(c,)`, whether the class is present.
        patient: `(c,)`, positions 0 to `patients` - 1.
        patients: How many influences to return.

    Source: Obuchowski, Biometrics 1997, 53:567-578, structural components summed by patient;
        DeLong, DeLong and Clarke-Pearson, Biometrics 1988, 44:837-845. Deviation: patients
        with both classes weigh sqrt(I1 I0 / ((I1 - 1) (I0 - 1))) in the covariance term, with
        I1 and I0 the patients of each class, instead of I / (I - 1).
    """
    above, below = score[positive], score[~positive]
    if not len(above) or not len(below):
        return undefined(patients)
    value, above_wins, below_loses = _components(above, below)
    owners, others = patient[positive], patient[~positive]
    holders = int(np.count_nonzero(np.bincount(patient, minlength=patients)))
    counts = [len(np.unique(part)) for part in (owners, others)]
    if min(counts) < 2:
        return Linear(value, np.zeros(patients), 1)
    parts = [
        np.bincount(who, what - value, minlength=patients) / len(what) * math.sqrt(n / (n - 1))
        for who, what, n in zip((owners, others), (above_wins, below_loses), counts, strict=True)
    ]
    influence = (parts[0] + parts[1]) / math.sqrt(holders / (holders - 1))
    return Linear(value, influence, holders)


def auc_interval(found: Linear, smaller: int | None = None, level: float = 0.95) -> Limits:
    """Limits of an area under the curve, symmetric on the logit scale.

    Student's t, with the smaller of `degrees_of_freedom` and of the pairs of patients, one with
    the class and one without and none used twice, less 1. Where no patient pulls the estimate
    (an area of 0 or 1, or equal scores), the exact limits of as many successes among so many
    pairs: with one case per patient an area of 1 has all disjoint pairs in order, which has at
    most the chance area^pairs, so that the lower limit errs on the safe side.

    Args:
        found: Of `auc`.
        smaller: Patients with a case of the class that fewer patients have. None if unknown:
            then no limits for an area without spread, and too narrow ones if few have a class.
        level: Nominal coverage; approximate, measured in docs/statistics.md.

    Returns:
        Limits in [0, 1]; NaN where the area or its spread cannot be estimated.

    Source: logit scale: Pepe, The Statistical Evaluation of Medical Tests, 2003, chapter 5;
        exact limits: Clopper and Pearson, Biometrika 1934, 26:404-413; the choice of t by
        simulation.
    """
    half = found.patients // 2
    pairs = half if smaller is None else min(smaller, half)
    if math.isnan(found.value) or pairs < 1:
        return math.nan, math.nan
    if np.abs(found.influence).max() <= NO_SPREAD:
        known = smaller is not None
        return clopper_pearson(found.value * pairs, pairs, level) if known else (math.nan, math.nan)
    error, freedom = logit_error(found, pairs)
    return logit_limits(found.value, error, float(stats.t.ppf((1 + level) / 2, freedom)))


def logit_error(found: Linear, smaller: int) -> tuple[float, float]:
    """Standard error of an area on the logit scale, and its degrees of freedom.

    Arguments as for `auc_interval`.

    Returns:
        NaN twice where no patient pulls the area, or fewer than two pairs of patients do.
    """
    pairs = min(smaller, found.patients // 2)
    if pairs < 2 or np.abs(found.influence).max() <= NO_SPREAD:
        return math.nan, math.nan
    slope = found.value * (1 - found.value)
    return math.sqrt(found.variance) / slope, min(pairs - 1, degrees_of_freedom(found))


def logit_limits(value: float, error: float, reach: float) -> Limits:
    """Limits that lie `reach` standard errors from the value on the logit scale."""
    centre = logit(value)
    return float(expit(centre - reach * error)), float(expit(centre + reach * error))


def degrees_of_freedom(found: Linear) -> float:
    """Degrees of freedom of a variance that few patients may carry.

    Twice the squared variance over the variance of its estimate: about the number of patients
    if their influences are normal, fewer if a few of them dominate.

    Returns:
        At least 1, infinite where there is no spread at all.

    Source: Satterthwaite, Biometrics Bulletin 1946, 2:110-114, with empirical moments.
    """
    squares = np.square(found.influence)
    total = float(squares.sum())
    excess = float(np.square(squares).sum()) - total**2 / max(found.patients, 1)
    if total == 0 or excess <= NO_SPREAD * total**2:
        return math.inf
    return max(1.0, 2 * total**2 / excess)


def _components(above: Floats, below: Floats) -> tuple[float, Floats, Floats]:
    """The area, and each case's share of the cases of the other class that it is right about."""
    up, down = np.sort(above), np.sort(below)
    wins = (np.searchsorted(down, above) + np.searchsorted(down, above, "right")) / (2 * len(down))
    losses = (np.searchsorted(up, below) + np.searchsorted(up, below, "right")) / (2 * len(up))
    return float(wins.mean()), wins, 1 - losses
