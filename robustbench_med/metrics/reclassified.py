"""Whether an error moves a patient across a limit that decides on treatment."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isnan, nan
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.clinical import EJECTION_CUTS, UNITS
from robustbench_med.errors import InputError
from robustbench_med.metrics.heart import Pair, measured
from robustbench_med.metrics.settings import is_number
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Reclassified:
    """1 where the predicted clinical measure falls into another zone than the true one, else 0.

    Cuts divide the measure's range into zones; a value at a cut is in the zone above it. A
    prediction without the measure, an ejection fraction without a ventricle, is reclassified,
    and neither up nor down.

    Attributes:
        measure: Name of a field of `clinical.Measures`.
        cuts: Limits between zones, rising, in the measure's unit; those of an ejection fraction
            unless told.

    Source of the cuts: Ezekowitz et al., Can J Cardiol 33 (2017) 1342, section 2.1, in whole
        percentages: reduced up to 40, preserved from 50. Deviation: 40 itself is not reduced,
        as in `clinical.diagnose`.
    """

    measure: str = "lvef"
    cuts: tuple[float, ...] = EJECTION_CUTS

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.measure not in UNITS:
            raise InputError(
                f"reclassified: measure must be one of {', '.join(UNITS)}, got {self.measure!r}"
            )
        object.__setattr__(self, "cuts", _checked(self.cuts))
        if self.cuts == EJECTION_CUTS and UNITS[self.measure] != "%":
            raise InputError(
                f"reclassified: {self.measure} needs cuts of its own, "
                f"{list(EJECTION_CUTS)} are those of an ejection fraction"
            )

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Score each case.

        Args:
            output: `(b, 4, 2, z, y, x)`, logits of background, LV, myocardium and RV, at ED and
                ES.
            target: `(b, 2, z, y, x)`, class indices 0 to 3.
            context: With `spacing`, in mm.

        Returns:
            `value`, 1 or 0; `up` and `down`, 1 where the predicted zone is above or below the
            true one, else 0; all `(b,)`, NaN where the truth has no such measure or a spacing is
            no length.

        Raises:
            InputError: If the shapes are not those of whole patients.
            CaseError: If `spacing` is missing or not of three axes.
        """
        moved = [self._moved(pair) for pair in measured("reclassified", output, target, context)]
        value, up, down = torch.tensor(moved, dtype=torch.float64, device=output.device).T
        return {"value": value, "up": up, "down": down}

    def _moved(self, pair: Pair | None) -> tuple[float, float, float]:
        if pair is None or isnan(getattr(pair.true, self.measure)):
            return nan, nan, nan
        predicted, true = (getattr(found, self.measure) for found in pair)
        if isnan(predicted):
            return 1.0, 0.0, 0.0
        there, here = bisect_right(self.cuts, predicted), bisect_right(self.cuts, true)
        return float(there != here), float(there > here), float(there < here)


def _checked(cuts: object) -> tuple[float, ...]:
    listed = cuts if isinstance(cuts, (list, tuple)) else ()
    numbers = [cut for cut in listed if is_number(cut)]
    rising = all(low < high for low, high in pairwise(numbers))
    finite = all(-inf < number < inf for number in numbers)
    if not numbers or len(numbers) != len(listed) or not rising or not finite:
        raise InputError(f"reclassified: cuts must be rising numbers, at least one, got {cuts!r}")
    return tuple(float(number) for number in numbers)
