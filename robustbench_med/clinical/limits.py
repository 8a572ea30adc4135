"""Exact extremes of what is counted in a label map of which each pixel is known only as a set.

A proof about a segmentation says, for every pixel, which classes it may take under some image of
a set. The label maps consistent with that are all combinations of these classes; the limits here
are their exact extremes. Real images may reach fewer combinations: sound, not always tight.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_med.clinical.measures import MYOCARDIAL_DENSITY, ejection_fraction
from robustbench_med.errors import InputError

Interval = tuple[float, float]
NOTHING: Interval = (float("nan"), float("nan"))


def volume_limits(can: ArrayLike) -> NDArray[np.int64]:
    """Fewest and most pixels of every class.

    Args:
        can: `(k, *s)`, booleans: which classes each pixel may take, at least one each.

    Returns:
        `(k, 2)`: pixels that can be nothing else, and pixels that can be this class. Each class's
        limits are reached, those of two classes not always together.

    Raises:
        InputError: If `can` is not boolean, or a pixel may take no class.
    """
    sets = _sets(can)
    alone = sets & (sets.sum(axis=0) == 1)
    return np.stack([alone.sum(axis=1), sets.sum(axis=1)], axis=1, dtype=np.int64)


@dataclass(frozen=True)
class Overlap:
    """Limits of the counts that a Dice is made of; those of several slices may be added up.

    Attributes:
        shared: Fewest and most pixels of the truth that get its class.
        beyond: Fewest and most pixels outside the truth that get it, too.
        true: Pixels of the truth.
    """

    shared: tuple[int, int]
    beyond: tuple[int, int]
    true: int

    def __add__(self, other: "Overlap") -> "Overlap":
        """Return the limits of both parts taken together."""
        return Overlap(
            (self.shared[0] + other.shared[0], self.shared[1] + other.shared[1]),
            (self.beyond[0] + other.beyond[0], self.beyond[1] + other.beyond[1]),
            self.true + other.true,
        )

    @property
    def dice(self) -> Interval:
        """Smallest and largest Dice; see `dice_limits`."""
        if self.true == 0:
            return (0.0, 0.0) if self.beyond[1] else NOTHING
        worst = 2 * self.shared[0] / (self.true + self.shared[0] + self.beyond[1])
        best = 2 * self.shared[1] / (self.true + self.shared[1] + self.beyond[0])
        return worst, best


def overlap_limits(can: ArrayLike, target: ArrayLike, label: int) -> Overlap:
    """Limits of a class's overlap with the truth.

    Args:
        can: As of `volume_limits`.
        target: `(*s)`, true class indices.
        label: Index of the class.

    Raises:
        InputError: As of `volume_limits`, or if `target` or `label` does not fit `can`.
    """
    sets, truth = _sets(can), np.asarray(target)
    if truth.shape != np.shape(can)[1:] or not np.issubdtype(truth.dtype, np.integer):
        raise InputError(
            f"dice_limits: expected a target of whole numbers {np.shape(can)[1:]}, "
            f"got {truth.dtype} {truth.shape}"
        )
    if not 0 <= label < len(sets):
        raise InputError(f"dice_limits: label must be from 0 to {len(sets) - 1}, got {label}")
    inside = truth.ravel() == label
    may = sets[label]
    must = may & (sets.sum(axis=0) == 1)
    return Overlap(
        (int((must & inside).sum()), int((may & inside).sum())),
        (int((must & ~inside).sum()), int((may & ~inside).sum())),
        int(inside.sum()),
    )


def dice_limits(can: ArrayLike, target: ArrayLike, label: int) -> Interval:
    """Smallest and largest Dice of a class, over all consistent label maps.

    At worst all uncertain pixels inside the truth leave the class and all outside join it; at
    best the reverse. Where the truth is empty, label maps without the class have no Dice and the
    others a Dice of 0: NaN twice if none can have it, 0 twice otherwise.

    Arguments and errors as of `overlap_limits`; of several slices, add their overlaps.
    """
    return overlap_limits(can, target, label).dice


def ejection_fraction_limits(edv: Interval, esv: Interval) -> Interval:
    """Smallest and largest ejection fraction, in %, for volumes within their limits.

    It rises with the end-diastolic volume and falls with the end-systolic one, so the limits are
    reached at opposite corners. Both limits hold wherever it is defined, which it is not at an
    end-diastolic volume of 0: where that can be as small as 0, the fraction falls without limit
    as it shrinks, and the lower limit is minus infinity (100 where nothing can be left at
    end-systole). NaN twice where the end-diastolic volume can only be 0.

    Args:
        edv: Lowest and highest end-diastolic volume, at least 0.
        esv: The same at end-systole, in the same unit.

    Raises:
        InputError: If a lower limit is negative or above the upper one, or one is not finite.
    """
    _volumes("edv", edv)
    _volumes("esv", esv)
    if edv[1] == 0:
        return NOTHING
    high = ejection_fraction(edv[1], esv[0])
    if edv[0] > 0:
        return ejection_fraction(edv[0], esv[1]), high
    return (-np.inf if esv[1] > 0 else 100.0), high


def stroke_volume_limits(edv: Interval, esv: Interval) -> Interval:
    """Smallest and largest stroke volume; arguments and errors as of `ejection_fraction_limits`."""
    _volumes("edv", edv)
    _volumes("esv", esv)
    return edv[0] - esv[1], edv[1] - esv[0]


def mass_limits(volume: Interval) -> Interval:
    """Smallest and largest mass of the myocardium, in g, from its volume in mL.

    Raises:
        InputError: As of `ejection_fraction_limits`.
    """
    _volumes("volume", volume)
    return volume[0] * MYOCARDIAL_DENSITY, volume[1] * MYOCARDIAL_DENSITY


def _sets(can: ArrayLike) -> NDArray[np.bool_]:
    sets = np.asarray(can)
    if sets.dtype != np.bool_ or sets.ndim < 2:
        raise InputError(
            f"volume_limits: expected class sets (k, *s) of booleans, got {sets.dtype} {sets.shape}"
        )
    flat = sets.reshape(len(sets), -1)
    empty = int((~flat.any(axis=0)).sum())
    if empty:
        raise InputError(
            f"volume_limits: expected at least one class that each pixel may take, got {empty} "
            "pixels with none; a certified pixel keeps one"
        )
    return flat


def _volumes(name: str, limits: Interval) -> None:
    low, high = limits
    if not 0 <= low <= high < np.inf:
        raise InputError(
            f"limits: {name} must be two finite volumes, 0 <= low <= high, got ({low}, {high})"
        )
