"""How far the surface of a predicted region strays from the true one."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.regions import require_label
from robustbench_med.metrics.settings import is_number
from robustbench_med.metrics.surfaces import (
    Gaps,
    Unit,
    lengths,
    masks,
    require_unit,
    score_surfaces,
)
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Hausdorff:
    """Hausdorff distance of one class, or a percentile of it: HD95 unless told.

    The larger of two percentiles: of the distances from the predicted surface to the true one,
    and of those from the true one to the predicted, with linear interpolation between ranks. The
    percentile of both sets taken together, which others use, is no larger.

    Where one region alone is empty the value is the image's diagonal, longer than any distance
    in it, so that a missed structure is never better than a poor outline.

    Attributes:
        label: Index of the class to score.
        percentile: Above 0 and at most 100, which is the Hausdorff distance itself.
        unit: "mm", which needs `context["spacing"]`, or "voxels".

    Source: Huttenlocher et al., IEEE TPAMI 15 (1993) 850, for the distance and its ranks.
    """

    label: int = 1
    percentile: float = 95.0
    unit: Unit = "mm"

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    def __post_init__(self) -> None:
        require_label("hausdorff", self.label)
        require_unit("hausdorff", self.unit)
        if not (is_number(self.percentile) and 0 < self.percentile <= 100):
            raise InputError(
                "hausdorff: percentile must be a number above 0 and at most 100, "
                f"got {self.percentile!r}"
            )

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Measure each case.

        Args:
            output: `(b, k, y, x)` or `(b, k, z, y, x)`, logits.
            target: `(b, y, x)` or `(b, z, y, x)`, class indices.
            context: With `spacing` `(b, 3)` for mm.

        Returns:
            `value`, in `unit`, the diagonal where one region alone is empty; `penalised`, 1
            there and 0 elsewhere; both `(b,)`, NaN where both regions are empty or a spacing is
            no positive number.

        Raises:
            InputError: If the shapes are no segmentation's of two or three axes, or have no such
                class.
            CaseError: If mm are asked for and the spacing is missing, or not of three axes.
        """
        pairs = masks("hausdorff", output, target, self.label)
        extents = lengths("hausdorff", target, context, self.unit)
        scored = score_surfaces(pairs, extents, self._farthest, penalty=lambda diagonal: diagonal)
        return {name: value.to(output.device) for name, value in scored.items()}

    def _farthest(self, gaps: Gaps) -> float:
        return float(max(np.percentile(way, self.percentile) for way in gaps))
