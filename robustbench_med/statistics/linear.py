"""An estimate and what each patient pulls it by: the common form of all smooth statistics."""

import math
from dataclasses import dataclass

import numpy as np

from robustbench_med.statistics.bootstrap import Floats


@dataclass(frozen=True)
class Linear:
    """A number and its first-order dependence on the patients behind it.

    Attributes:
        value: The estimate; NaN where it is undefined.
        influence: `(patients,)`, sums to 0: the estimate is off by about the sum of what the
            sampled patients pull; 0 for a patient without anything to add.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.7
        (empirical influence values), with whole patients as units.
    """

    value: float
    influence: Floats

    @property
    def variance(self) -> float:
        """Variance between patients; NaN for fewer than two of them."""
        held = int(np.count_nonzero(self.influence))
        patients = max(held, 1)
        if held < 2:
            return math.nan
        return float(patients / (patients - 1) * np.square(self.influence).sum())


def ratio(numerator: Floats, denominator: Floats) -> Linear:
    """Estimate a ratio of sums over patients.

    Args:
        numerator: `(patients,)`, what each adds above.
        denominator: `(patients,)`, what each adds below; 0 where a patient has nothing.

    Source: Cochran, Sampling Techniques, 3rd ed. 1977, section 6.3 (linearised ratio).
    """
    total = denominator.sum()
    if not total > 0:
        return Linear(math.nan, np.zeros_like(numerator))
    value = float(numerator.sum() / total)
    if not math.isfinite(value):
        return Linear(value, np.zeros_like(numerator))
    return Linear(value, (numerator - value * denominator) / total)
