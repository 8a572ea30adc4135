"""How many lesions are found, and how many are made up."""

from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.regions import require_label
from robustbench_med.metrics.settings import is_number, is_whole
from robustbench_med.metrics.surfaces import Flags, masks
from robustbench_med.probes import Better

Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Lesions:
    """Share of a case's true lesions that are found, with the counts it is made of.

    A lesion is a set of voxels of the class that touch by a face, an edge or a corner. A true
    lesion is found if prediction covers enough of it; a predicted one is false if it shares no
    voxel with the truth. So a prediction that grazes a lesion and covers too little of it finds
    nothing and is no false one.

    Attributes:
        label: Index of the class whose components are lesions.
        overlap: Share of a true lesion that must be covered, above 0 and at most 1.
        least_voxels: Smaller components are no lesions: true ones need not be found, predicted
            ones neither find nor are false.

    Source: Commowick et al., Sci Rep 8 (2018) 13650, section on lesion detection. Deviation: no
        second condition against predictions far larger than the lesion.
    """

    label: int = 1
    overlap: float = 0.1
    least_voxels: int = 1

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        require_label("lesions", self.label)
        if not (is_number(self.overlap) and 0 < self.overlap <= 1):
            raise InputError(
                f"lesions: overlap must be above 0 and at most 1, got {self.overlap!r}"
            )
        if not (is_whole(self.least_voxels) and self.least_voxels >= 1):
            raise InputError(
                "lesions: least_voxels must be a whole number of at least 1, "
                f"got {self.least_voxels!r}"
            )

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Count in each case.

        Args:
            output: `(b, k, y, x)` or `(b, k, z, y, x)`, logits.
            target: `(b, y, x)` or `(b, z, y, x)`, class indices.

        Returns:
            `value`, found by true lesions, NaN where the case has none; `found`, `true` and
            `false`, numbers of lesions; all `(b,)`. The rate of a cohort is the sum of `found`
            over the sum of `true`, and the mean of `false` is false positives per case.

        Raises:
            InputError: If the shapes are no segmentation's of two or three axes, or have no such
                class.
        """
        pairs = masks("lesions", output, target, self.label)
        counts = [self._count(predicted, true) for predicted, true in pairs]
        found, there, false = torch.tensor(counts, dtype=torch.float64, device=output.device).T
        value = (found / there).where(there > 0, nan)
        return {"value": value, "found": found, "true": there, "false": false}

    def _count(self, predicted: Flags, true: Flags) -> tuple[int, int, int]:
        lesions, sizes = _components(true)
        answers, extents = _components(predicted)
        counts = extents >= self.least_voxels
        covering = np.concatenate([[False], counts])[answers]
        covered = np.bincount(lesions[covering], minlength=len(sizes) + 1)[1:]
        wanted = sizes >= self.least_voxels
        touching = np.bincount(answers[true], minlength=len(extents) + 1)[1:] > 0
        # A quotient, as a product of a share and a size may round to above the count it means.
        found = wanted & (covered / sizes >= self.overlap)
        return int(found.sum()), int(wanted.sum()), int((counts & ~touching).sum())


def _components(region: Flags) -> tuple[Counts, Counts]:
    """Number of each voxel's component, 0 outside, `(*s)`, and voxels of each, `(n,)`."""
    numbers, _ = ndimage.label(region, structure=np.ones((3,) * region.ndim))
    return numbers, np.bincount(numbers.ravel())[1:]
