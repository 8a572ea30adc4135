"""A number with its interval, and what it rests on."""

import math
from dataclasses import dataclass, replace

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.proportions import (
    clopper_pearson,
    effective_size,
    freedom_of,
    score_limits,
    student,
    wilson,
)

WILSON = "Wilson"
RAO_SCOTT = "Rao-Scott Wilson"
CLOPPER_PEARSON = "Clopper-Pearson"
BOOTSTRAP = "patient bootstrap, studentised"
OBUCHOWSKI = "Obuchowski, logit"
SMOOTHED = "patient bootstrap, freed of chance"


@dataclass(frozen=True)
class Estimate:
    """A number with a 95% interval.

    Attributes:
        value: NaN if nothing was defined.
        low: Lower limit; NaN where no interval can be estimated.
        high: Upper limit; NaN where no interval can be estimated.
        method: Of the interval; empty where there is none.
        trials: Of a share, the independent trials that would say as much; NaN otherwise.
        freedom: Degrees of freedom of its variance; NaN where the interval is the bootstrap's.
        logit_error: Of an area under the curve, its standard error on the logit scale.
    """

    value: float
    low: float
    high: float
    method: str
    trials: float = math.nan
    freedom: float = math.nan
    logit_error: float = math.nan


def of_share(successes: Floats, cases: Floats) -> Estimate:
    """Estimate a share from 0/1 values.

    Wilson's interval for one case per patient; for several, the same on the effective number
    of trials and with Student's t; Clopper-Pearson on patients where several cases each leave
    no spread between them.

    Args:
        successes: `(patients,)`, cases with the value 1.
        cases: `(patients,)`, cases with a defined value; may be 0.
    """
    held = cases > 0
    counted, sizes = successes[held], cases[held]
    patients = len(sizes)
    if not patients:
        return bare(math.nan)
    share, freedom = float(counted.sum() / sizes.sum()), float(patients - 1)
    if (sizes == 1).all():
        return Estimate(share, *wilson(counted.sum(), patients), WILSON, patients, freedom)
    size = effective_size(counted, sizes)
    if math.isinf(size):
        limits = clopper_pearson(share * patients, patients)
        return Estimate(share, *limits, CLOPPER_PEARSON, patients, freedom)
    freedom = freedom_of(sizes, size)
    return Estimate(share, *score_limits(share, size, student(freedom)), RAO_SCOTT, size, freedom)


def within(estimate: Estimate, limits: tuple[float, float] | None) -> Estimate:
    """The same, its interval cut to where values lie by definition."""
    if limits is None or math.isnan(estimate.low):
        return estimate
    low, high = (float(np.clip(end, *limits)) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def bare(value: float) -> Estimate:
    """A number that no interval can be made for."""
    return Estimate(value, math.nan, math.nan, "")
