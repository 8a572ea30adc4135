"""How far off a clinical measure is, with its sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.clinical import UNITS
from robustbench_med.errors import InputError
from robustbench_med.metrics.heart import measured
from robustbench_med.probes import Better


@dataclass(frozen=True)
class MeasureError:
    """Predicted minus true clinical measure of a whole patient, with both.

    Attributes:
        measure: Name of a field of `clinical.Measures`: an ejection fraction, a volume, the
            mass, the thickest wall.
    """

    measure: str = "lvef"

    better: ClassVar[Better] = "zero"
    patient: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        if self.measure not in UNITS:
            raise InputError(
                f"measure_error: measure must be one of {', '.join(UNITS)}, got {self.measure!r}"
            )

    @property
    def unit(self) -> str:
        """Unit of the measure; percentage points for an ejection fraction."""
        return UNITS[self.measure]

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Measure each case.

        Args:
            output: `(b, 4, 2, z, y, x)`, logits of background, LV, myocardium and RV, at ED and
                ES.
            target: `(b, 2, z, y, x)`, class indices 0 to 3.
            context: With `spacing`, in mm.

        Returns:
            `value`, the difference, and `predicted` and `true`, all `(b,)`, in `unit`; NaN where
            undefined: an ejection fraction without a ventricle, a spacing that is no length.

        Raises:
            InputError: If the shapes are not those of whole patients.
            CaseError: If `spacing` is missing or not of three axes.
        """
        pairs = measured("measure_error", output, target, context)
        values = [
            [getattr(found, self.measure) for found in pair] if pair else [torch.nan] * 2
            for pair in pairs
        ]
        predicted, true = torch.tensor(values, dtype=torch.float64, device=output.device).T
        return {"value": predicted - true, "predicted": predicted, "true": true}
