"""How much of the surface of a predicted region lies where the true one does."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.regions import require_label
from robustbench_med.metrics.settings import is_number
from robustbench_med.metrics.surfaces import Gaps, lengths, masks, score_surfaces
from robustbench_med.probes import Better

# Spacings come in single precision: 1.2 mm as 1.2000000477, which must not exceed 1.2.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDice:
    """Share of both surfaces of one class that lies within a tolerance of the other.

    Also called normalised surface distance. Each voxel of a surface counts alike, whatever area
    of it the voxel holds. Where one region alone is empty it is 0.

    Attributes:
        tolerance_mm: Largest distance that is no error, at least 0: how far apart two readers
            draw this structure, which only they can tell.
        label: Index of the class to score.

    Source: Nikolov et al., J Med Internet Res 23 (2021) e26151, section on the surface Dice.
    """

    tolerance_mm: float
    label: int = 1

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        require_label("surface_dice", self.label)
        if not (is_number(self.tolerance_mm) and 0 <= self.tolerance_mm < inf):
            raise InputError(
                "surface_dice: tolerance_mm must be a length of at least 0, "
                f"got {self.tolerance_mm!r}"
            )

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Score each case.

        Args:
            output: `(b, k, y, x)` or `(b, k, z, y, x)`, logits.
            target: `(b, y, x)` or `(b, z, y, x)`, class indices.
            context: With `spacing` `(b, 3)`, in mm.

        Returns:
            `value`, in [0, 1], 0 where one region alone is empty; `penalised`, 1 there and 0
            elsewhere; both `(b,)`, NaN where both regions are empty or a spacing is no positive
            number.

        Raises:
            InputError: If the shapes are no segmentation's of two or three axes, or have no such
                class.
            CaseError: If the spacing is missing, or not of three axes.
        """
        pairs = masks("surface_dice", output, target, self.label)
        extents = lengths("surface_dice", target, context)
        scored = score_surfaces(pairs, extents, self._within, penalty=lambda _: 0.0)
        return {name: value.to(output.device) for name, value in scored.items()}

    def _within(self, gaps: Gaps) -> float:
        return float((np.concatenate(gaps) <= self.tolerance_mm * (1 + ROUNDING)).mean())
