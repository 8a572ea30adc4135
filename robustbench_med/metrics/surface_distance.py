"""How far apart the surfaces of a predicted and the true region are on average."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from torch import Tensor

from robustbench_med.metrics.regions import require_label
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
class SurfaceDistance:
    """Average symmetric surface distance of one class.

    The mean over the voxels of both surfaces together, so that each voxel counts once. Where one
    region alone is empty it is the image's diagonal, as for `hausdorff`.

    Attributes:
        label: Index of the class to score.
        unit: "mm", which needs `context["spacing"]`, or "voxels".

    Source: Heimann et al., IEEE TMI 28 (2009) 1251, section on evaluation measures.
    """

    label: int = 1
    unit: Unit = "mm"

    better: ClassVar[Better] = "lower"
    patient: ClassVar[str] = "mean"
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    def __post_init__(self) -> None:
        require_label("surface_distance", self.label)
        require_unit("surface_distance", self.unit)

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Measure each case: see `Hausdorff`."""
        pairs = masks("surface_distance", output, target, self.label)
        extents = lengths("surface_distance", target, context, self.unit)
        scored = score_surfaces(pairs, extents, _mean, penalty=lambda diagonal: diagonal)
        return {name: value.to(output.device) for name, value in scored.items()}


def _mean(gaps: Gaps) -> float:
    return float(np.concatenate(gaps).mean())
