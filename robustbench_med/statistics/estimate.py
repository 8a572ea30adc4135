"""A number with its interval, and what it rests on."""

import math
from dataclasses import dataclass

import numpy as np

from robustbench_med.statistics.bootstrap import Floats, percentile
from robustbench_med.statistics.proportions import clopper_pearson, effective_size, wilson

WILSON = "Wilson"
RAO_SCOTT = "Rao-Scott Wilson"
CLOPPER_PEARSON = "Clopper-Pearson"
BOOTSTRAP = "patient bootstrap, percentile"


@dataclass(frozen=True)
class Estimate:
    """A mean over cases or patients, with a 95% interval.

    Attributes:
        value: NaN if nothing was defined.
        low: Lower limit; NaN where no interval can be estimated.
        high: Upper limit; NaN where no interval can be estimated.
        method: Of the interval; empty where there is none.
        patients: With at least one defined value.
        undefined: Cases whose value is NaN although nothing failed.
    """

    value: float
    low: float
    high: float
    method: str
    patients: int
    undefined: int


def of_share(successes: Floats, cases: Floats, undefined: int = 0) -> Estimate:
    """Estimate a share from 0/1 values.

    Wilson's interval for one case per patient; for several, the same on the effective sample
    size; Clopper-Pearson on patients where several cases each leave no spread between them.

    Args:
        successes: `(patients,)`, cases with the value 1.
        cases: `(patients,)`, cases with a defined value; may be 0.
        undefined: Cases without one, to be handed on.
    """
    held = cases > 0
    counted, sizes = successes[held], cases[held]
    patients = len(sizes)
    if not patients:
        return _bare(math.nan, 0, undefined)
    share = float(counted.sum() / sizes.sum())
    if (sizes == 1).all():
        return Estimate(share, *wilson(counted.sum(), patients), WILSON, patients, undefined)
    size = effective_size(counted, sizes)
    if math.isinf(size):
        limits = clopper_pearson(share * patients, patients)
        return Estimate(share, *limits, CLOPPER_PEARSON, patients, undefined)
    return Estimate(share, *wilson(share * size, size), RAO_SCOTT, patients, undefined)


def of_mean(
    numerator: Floats, denominator: Floats, replicates: Floats, undefined: int = 0
) -> Estimate:
    """Estimate a mean with the percentile interval of the patient bootstrap.

    No interval where all patients agree (a bootstrap of equal values has no width, which is
    not certainty) or where the mean is infinite.

    Args:
        numerator: `(patients,)`, what each patient adds to the sum.
        denominator: `(patients,)`, what each adds to the count; 0 where undefined.
        replicates: `(draws,)`, of `resample`.
        undefined: Cases without a defined value, to be handed on.
    """
    held = denominator > 0
    patients = int(held.sum())
    if not patients:
        return _bare(math.nan, 0, undefined)
    with np.errstate(invalid="ignore"):
        value = float(numerator[held].sum() / denominator[held].sum())
    if not math.isfinite(value) or _agree(numerator[held] / denominator[held]):
        return _bare(value, patients, undefined)
    return Estimate(value, *percentile(replicates), BOOTSTRAP, patients, undefined)


def _agree(means: Floats) -> bool:
    return bool(np.ptp(means) <= 1e-12 * np.abs(means).max())


def _bare(value: float, patients: int, undefined: int) -> Estimate:
    return Estimate(value, math.nan, math.nan, "", patients, undefined)
