"""Limits of agreement: between what bounds 95 of 100 differences from the truth lie."""

import math

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.linear import Linear, ratio, undefined
from robustbench_med.statistics.scores import Counts

SPREADS = 1.96


def limits_of_agreement(errors: Floats, patient: Counts, patients: int) -> tuple[Linear, Linear]:
    """Estimate mean - 1.96 sd and mean + 1.96 sd of the errors.

    The variance is that of all cases, within and between patients: the mean square about the
    mean, plus the variance of that mean between patients, which makes up for the mean being
    estimated (for one case per patient, the sum of squares over n - 1). Both undefined below
    two patients; without any spread the limits coincide and nothing pulls them.

    Args:
        errors: `(c,)`, finite, predicted minus true.
        patient: `(c,)`, positions 0 to `patients` - 1.
        patients: How many influences to return.

    Returns:
        Lower and upper limit.

    Source: Bland and Altman, Lancet 1986, 327:307-310; Stat. Methods Med. Res. 1999,
        8:135-160, section 2 (limits) and 5 (several cases each). Deviation: the variance
        components are not estimated one by one, and influences are summed by patient.
    """
    cases = np.bincount(patient, minlength=patients).astype(np.float64)
    sums = np.bincount(patient, errors, minlength=patients).astype(np.float64)
    mean = ratio(sums, cases)
    if mean.patients < 2:
        return undefined(patients), undefined(patients)
    squares = np.bincount(patient, np.square(errors - mean.value), minlength=patients)
    about = ratio(squares.astype(np.float64), cases)
    deviation = math.sqrt(about.value + mean.variance)
    pull = about.influence / (2 * deviation) if deviation > 0 else np.zeros(patients)
    low, high = (
        Linear(
            mean.value + sign * SPREADS * deviation,
            mean.influence + sign * SPREADS * pull,
            mean.patients,
        )
        for sign in (-1, 1)
    )
    return low, high
