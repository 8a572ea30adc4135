"""The metric of the plans beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

import robustbench_med as rb


@dataclass(frozen=True)
class AbsoluteError:
    """How far off a clinical measure is, whichever way; NaN where it is undefined.

    Attributes:
        measure: As `measure_error` takes it.
    """

    measure: str = "lvef"

    better: ClassVar[str] = "lower"
    patient: ClassVar[str] = "mean"
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    @property
    def unit(self) -> str:
        """Unit of the measure."""
        unit: str = self._signed.unit
        return unit

    @property
    def _signed(self) -> rb.Metric:
        return rb.build("metrics", "measure_error", measure=self.measure)

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Score each case, `(b,)`; see `measure_error`."""
        error: Tensor = self._signed(output, target, context)["value"]
        return error.abs()
