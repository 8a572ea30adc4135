"""A group held against everyone else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics import studentised
from robustbench_med.statistics.bootstrap import Floats, Replicates
from robustbench_med.statistics.comparison import Difference, by_limits, of_means
from robustbench_med.statistics.readings import Reading
from robustbench_med.statistics.samples import Drawn, Sample, sample
from robustbench_med.statistics.scores import Flags

SHOWN_FROM = 10
"""Patients below which nothing is shown and nothing is compared."""


@dataclass(frozen=True)
class Gap:
    """A group held against all other cases; each sequence has a place per column.

    Attributes:
        rest: Sample of the other cases.
        differences: Group minus rest.
        draws: `(draws, q)`, resamples of the differences as normal deviates.
        statistic: `(q,)`, the deviates of their p-values, what `draws` are compared with: small
            samples are allowed for in the p-value, dependence between tests in the draws.
    """

    rest: Sample
    differences: list[Difference]
    draws: NDArray[np.float32]
    statistic: Floats


def against_rest(
    readings: Sequence[Reading], drawn: Drawn, own: Sample, chosen: Flags
) -> Gap | None:
    """Hold a group against all other cases; None if either has too few patients to tell of."""
    if not (_many(drawn, chosen) and _many(drawn, ~chosen)):
        return None
    rest = sample(readings, drawn, ~chosen)
    both = own.replicates.against(rest.replicates)
    sides = own.portion.error, rest.portion.error
    # A side without spread would lend the difference a certainty that it has not.
    error = np.where(np.minimum(*sides) > 0, np.hypot(*sides), np.nan)
    differences = _differences(own, rest, both, error)
    statistic = studentised.deviate_of(np.array([found.p for found in differences]))
    return Gap(rest, differences, studentised.deviates(both.studentised()), statistic)


def _many(drawn: Drawn, chosen: Flags) -> bool:
    return len(np.unique(drawn.patient_ids[chosen])) >= SHOWN_FROM


def _differences(own: Sample, other: Sample, both: Replicates, error: Floats) -> list[Difference]:
    """Shares by their own limits, all else by resamples; none where a side has no interval."""
    with np.errstate(invalid="ignore"):
        values = own.portion.values - other.portion.values
    patients = np.minimum(own.portion.patients, other.portion.patients)
    low, high = studentised.limits(values, error, both)
    p = studentised.p_values(values, error, both, patients)
    found = []
    for place, (first, second) in enumerate(zip(own.estimates, other.estimates, strict=True)):
        if not np.isnan(first.freedom) and not np.isnan(second.freedom):
            found.append(by_limits(first, second))
        elif np.isnan(first.low) or np.isnan(second.low):
            found.append(of_means(float(values[place]), np.nan, np.nan, np.nan))
        else:
            ends = float(low[place]), float(high[place])
            found.append(of_means(float(values[place]), *ends, float(p[place])))
    return found
