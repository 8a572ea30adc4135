"""What is certain of a patient's measures, from limits of every slice at both phases."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_med.clinical.diagnosis_limits import WallLimits, diagnosis_limits
from robustbench_med.clinical.limits import (
    Interval,
    ejection_fraction_limits,
    mass_limits,
    stroke_volume_limits,
)
from robustbench_med.clinical.walls import LV, MYOCARDIUM, RV
from robustbench_med.errors import InputError


@dataclass(frozen=True)
class PatientLimits:
    """Lowest and highest of each measure of `Measures` that counts of pixels bound.

    If the class sets of every pixel of every slice are sound, so are these limits: whatever
    happens to the images within their sets, the measures stay inside. An adversary that moves all
    slices and phases as one may reach less: that they hang together is not used, so the limits
    are not always tight. Thickness and motion of the walls do not follow from counts.

    Attributes:
        lvedv: As of `Measures`, mL; so are the others.
        lvesv: mL.
        lvsv: mL.
        lvef: %; see `ejection_fraction_limits` for volumes of 0.
        lvm: g.
        rvedv: mL.
        rvesv: mL.
        rvsv: mL.
        rvef: %, as `lvef`.
    """

    lvedv: Interval
    lvesv: Interval
    lvsv: Interval
    lvef: Interval
    lvm: Interval
    rvedv: Interval
    rvesv: Interval
    rvsv: Interval
    rvef: Interval

    def diagnoses(
        self, *, bsa: float, male: bool, walls: WallLimits | None = None
    ) -> frozenset[str | None]:
        """Every answer that `diagnose` can give; see `diagnosis_limits`."""
        read = {name: getattr(self, name) for name in ("lvedv", "lvef", "rvedv", "rvef")}
        return diagnosis_limits(read, bsa=bsa, male=male, walls=walls)


def patient_limits(ed: ArrayLike, es: ArrayLike, spacing_mm: ArrayLike) -> PatientLimits:
    """Gather the limits of a patient's slices.

    Args:
        ed: `(z, 4, 2)`, whole numbers: `volume_limits` of every slice at end-diastole. A slice
            about which nothing is proved counts as one whose pixels may take every class: 0 to
            all its pixels. A slice that is left out would make the limits unsound.
        es: The same at end-systole.
        spacing_mm: `(3,)`, distance of slices and extent of a pixel, as of `measure`.

    Raises:
        InputError: If counts are no such array, or a spacing is not a positive number.
    """
    voxel_ml = _voxel_ml(spacing_mm)
    counts = [_summed("ed", ed), _summed("es", es)]

    def volume(phase: int, label: int) -> Interval:
        low, high = (counts[phase][label] * voxel_ml).tolist()
        return low, high

    lvedv, lvesv, rvedv, rvesv = (volume(phase, label) for label in (LV, RV) for phase in (0, 1))
    return PatientLimits(
        lvedv=lvedv,
        lvesv=lvesv,
        lvsv=stroke_volume_limits(lvedv, lvesv),
        lvef=ejection_fraction_limits(lvedv, lvesv),
        lvm=mass_limits(volume(0, MYOCARDIUM)),
        rvedv=rvedv,
        rvesv=rvesv,
        rvsv=stroke_volume_limits(rvedv, rvesv),
        rvef=ejection_fraction_limits(rvedv, rvesv),
    )


def _voxel_ml(spacing_mm: ArrayLike) -> float:
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            "patient_limits: expected spacing (z, y, x) in mm, three numbers above 0, "
            f"got {spacing.tolist()}"
        )
    return float(spacing.prod()) / 1000


def _summed(phase: str, given: ArrayLike) -> NDArray[np.integer[Any]]:
    counts = np.asarray(given)
    if counts.shape[1:] != (4, 2) or not np.issubdtype(counts.dtype, np.integer):
        raise InputError(
            f"patient_limits: expected counts of {phase} (z, 4, 2) of whole numbers, "
            f"got {counts.dtype} {counts.shape}"
        )
    if (counts[..., 0] < 0).any() or (counts[..., 0] > counts[..., 1]).any():
        raise InputError(f"patient_limits: counts of {phase} must be 0 <= fewest <= most")
    total: NDArray[np.integer[Any]] = counts.sum(axis=0)
    return total
