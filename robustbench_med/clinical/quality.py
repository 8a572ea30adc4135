"""Whether masks look like a heart at all, without knowing the truth."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from robustbench_med.clinical.walls import LV, MYOCARDIUM, RV
from robustbench_med.errors import InputError

LEAST_PIXELS = 10
LEAST_SLICES = 6


@dataclass(frozen=True)
class Quality:
    """What holds of a patient's masks at both phases.

    Attributes:
        sizes: Every structure has at least 10 pixels.
        run: At least 6 neighbouring slices hold LV cavity and myocardium.
        middle: The middle slice of the longest such run holds both ventricles.
    """

    sizes: bool
    run: bool
    middle: bool

    @property
    def passed(self) -> bool:
        """Whether all hold."""
        return self.sizes and self.run and self.middle


def quality(masks: NDArray[np.integer], *, least_slices: int = LEAST_SLICES) -> Quality:
    """Check masks as Bai et al. do before they measure.

    Args:
        masks: `(p, z, y, x)`, labels 0 to 3 of each phase, slices in order along z.
        least_slices: In a row; fewer than 6 for stacks that hold fewer.

    Raises:
        InputError: If the masks have not four axes, or `least_slices` is below 1.

    Source: Bai et al., JCMR 20:65 (2018), and the checks of its published code: at least 10
        pixels of each class, 6 slices in a row with LV and myocardium, LV and RV at the middle
        slice. That the middle is the run's, not the stack's, is this project's choice.
    """
    if masks.ndim != 4:
        raise InputError(f"quality: expected masks (p, z, y, x), got {masks.shape}")
    if least_slices < 1:
        raise InputError(f"quality: least_slices must be at least 1, got {least_slices}")
    found = [_of_phase(phase, least_slices) for phase in masks]
    return Quality(
        sizes=all(one.sizes for one in found),
        run=all(one.run for one in found),
        middle=all(one.middle for one in found),
    )


def _of_phase(masks: NDArray[np.integer], least_slices: int) -> Quality:
    lv, wall, rv = (masks == label for label in (LV, MYOCARDIUM, RV))
    sizes = all(structure.sum() >= LEAST_PIXELS for structure in (lv, wall, rv))
    first, length = _longest_run(lv.any(axis=(1, 2)) & wall.any(axis=(1, 2)))
    middle = first + length // 2
    both = length > 0 and bool(lv[middle].any() and rv[middle].any())
    return Quality(bool(sizes), length >= least_slices, both)


def _longest_run(held: NDArray[np.bool_]) -> tuple[int, int]:
    """First place and length of the longest run of True; of equal ones the first."""
    best, place = (0, 0), 0
    for value, group in groupby(held.tolist()):
        length = len(list(group))
        if value and length > best[1]:
            best = (place, length)
        place += length
    return best
