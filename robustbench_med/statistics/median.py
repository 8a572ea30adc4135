"""The middle of patients' values, with an interval from the patient bootstrap."""

import numpy as np

from robustbench_med.statistics.bootstrap import Counts8, Floats
from robustbench_med.statistics.estimate import Estimate, bare

METHOD = "patient bootstrap, percentile"
LEVEL = 0.95


def median_estimate(values: Floats, table: Counts8) -> Estimate:
    """Estimate the median of one value per patient.

    Args:
        values: `(patients,)`, no NaN; plus infinity is allowed, and may be the median.
        table: `(draws, patients)`, from `draw_patients`, columns of these patients.

    Returns:
        The median and the percentiles of the resampled medians; NaN of no patients, and no
        interval of one.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 2.6.2
        (the median) and 5.3.1 (percentile limits).
    """
    if not len(values):
        return bare(np.nan)
    value = float(np.median(values))
    if len(values) < 2:
        return bare(value)
    drawn = _medians(values, table)
    tail = (1 - LEVEL) / 2
    # Without interpolation, so that infinite values stay what they are.
    low, high = np.quantile(drawn, [tail, 1 - tail], method="closest_observation")
    return Estimate(value, float(low), float(high), METHOD)


def _medians(values: Floats, table: Counts8) -> Floats:
    """Median of each resample that drew any of the patients."""
    order = np.argsort(values, kind="stable")
    ranked, reached = values[order], table[:, order].cumsum(axis=1, dtype=np.int64)
    reached = reached[reached[:, -1] > 0]
    twice, whole = 2 * reached, reached[:, -1:]
    lower, upper = (ranked[np.argmax(half, axis=1)] for half in (twice >= whole, twice > whole))
    found: Floats = np.where(lower == upper, lower, (lower + upper) / 2)
    return found
