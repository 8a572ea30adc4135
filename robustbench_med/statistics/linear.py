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
        influence: `(p,)`, sums to 0: the estimate is off by about the sum of what the sampled
            patients pull; 0 for a patient who has nothing to add.
        patients: Of the `p`, how many have something to add.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.7
        (empirical influence values), with whole patients as units.
    """

    value: float
    influence: Floats
    patients: int

    @property
    def variance(self) -> float:
        """Of the estimate, between patients; NaN for fewer than two of them."""
        if self.patients < 2:
            return math.nan
        squares = float(np.square(self.influence).sum())
        return self.patients / (self.patients - 1) * squares


def ratio(numerator: Floats, denominator: Floats) -> Linear:
    """Estimate a ratio of sums over patients.

    Args:
        numerator: `(p,)`, what each adds above.
        denominator: `(p,)`, what each adds below; 0 where a patient has nothing to add.

    Source: Cochran, Sampling Techniques, 3rd ed. 1977, section 6.3 (linearised ratio).
    """
    patients = int(np.count_nonzero(denominator))
    if not patients:
        return undefined(len(numerator))
    total = denominator.sum()
    value = float(numerator.sum() / total)
    if not math.isfinite(value):
        return Linear(value, np.zeros(len(numerator)), patients)
    return Linear(value, (numerator - value * denominator) / total, patients)


def undefined(patients: int) -> Linear:
    """What is said of a statistic that these data do not have."""
    return Linear(math.nan, np.zeros(patients), 0)
