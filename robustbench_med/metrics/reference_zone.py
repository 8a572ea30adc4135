"""Whether an error moves a patient to another zone of the reference: low, normal or high."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.clinical import CUTS, zone
from robustbench_med.errors import InputError
from robustbench_med.metrics.context import entries
from robustbench_med.metrics.heart import Pair, measured
from robustbench_med.probes import Better

ORDER = ("low", "normal", "high")


@dataclass(frozen=True)
class ReferenceZone:
    """1 where the predicted volume lies in another zone of healthy adults than the true one.

    Attributes:
        measure: `lvedv`, `lvesv`, `lvsv`, `rvedv`, `rvesv` or `rvsv`.
        indexed: Whether by body surface area.

    Zones and their source: `clinical.zone`.
    """

    measure: str = "lvedv"
    indexed: bool = True

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.measure not in CUTS:
            raise InputError(
                f"reference_zone: measure must be one of {', '.join(CUTS)}, got {self.measure!r}"
            )
        if type(self.indexed) is not bool:
            raise InputError(f"reference_zone: indexed must be true or false, got {self.indexed!r}")

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Score each case.

        Args:
            output: `(b, 4, 2, z, y, x)`, logits of background, LV, myocardium and RV, at ED and
                ES.
            target: `(b, 2, z, y, x)`, class indices 0 to 3.
            context: With `spacing` in mm, `male`, 1 or 0, and, if indexed, `bsa` in m^2.

        Returns:
            `value`, 1 or 0; `up` and `down`, 1 where the predicted zone is above or below the
            true one; all `(b,)`, NaN where spacing or `bsa` is no positive number, or `male` is
            neither 1 nor 0.

        Raises:
            InputError: If the shapes are not those of whole patients.
            CaseError: If the context lacks an entry.
        """
        names = ("male", "bsa") if self.indexed else ("male",)
        known = [entry.tolist() for entry in entries("reference_zone", context, *names)]
        pairs = measured("reference_zone", output, target, context)
        moved = [self._moved(pair, *of) for pair, *of in zip(pairs, *known, strict=True)]
        value, up, down = torch.tensor(moved, dtype=torch.float64, device=output.device).T
        return {"value": value, "up": up, "down": down}

    def _moved(
        self, pair: Pair | None, male: float, bsa: float | None = None
    ) -> tuple[float, float, float]:
        if pair is None or male not in (0.0, 1.0) or not (bsa is None or 0 < bsa < inf):
            return nan, nan, nan
        there, here = (
            ORDER.index(zone(self.measure, value, male=bool(male), bsa=bsa) or "normal")
            for value in (getattr(found, self.measure) for found in pair)
        )
        return float(there != here), float(there > here), float(there < here)
