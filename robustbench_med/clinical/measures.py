"""Volumes, ejection fractions, mass and walls of one patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_med.clinical.walls import LV, MYOCARDIUM, RV, Floats, walls
from robustbench_med.errors import InputError

MYOCARDIAL_DENSITY = 1.05


@dataclass(frozen=True)
class Measures:
    """Clinical measures of one patient; NaN where one is undefined.

    Attributes:
        lvedv: Volume of the LV cavity at ED, mL; 0 where none is found.
        lvesv: The same at ES, mL.
        lvsv: Stroke volume, `lvedv - lvesv`, mL.
        lvef: Ejection fraction, `100 lvsv / lvedv`, %; NaN where `lvedv` is 0.
        lvm: Mass of the myocardium at ED, g, at 1.05 g/mL.
        rvedv: Volume of the RV cavity at ED, mL.
        rvesv: The same at ES, mL.
        rvsv: `rvedv - rvesv`, mL.
        rvef: `100 rvsv / rvedv`, %; NaN where `rvedv` is 0.
        wall_mm: Thickness of the thickest segment at ED, mm. A segment is one of six sectors
            of one short-axis slice that counts; see `measure`.
        thick_segments: Number of segments above 15 mm at ED.
        motion_range: Regional difference in wall motion: largest minus smallest fractional
            shortening of the endocardial radius from ED to ES over the six sectors.
    """

    lvedv: float
    lvesv: float
    lvsv: float
    lvef: float
    lvm: float
    rvedv: float
    rvesv: float
    rvsv: float
    rvef: float
    wall_mm: float
    thick_segments: float
    motion_range: float


UNITS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("lvedv", "lvesv", "lvsv", "rvedv", "rvesv", "rvsv"), "mL"),
        "lvef": "%",
        "rvef": "%",
        "lvm": "g",
        "wall_mm": "mm",
        "thick_segments": "",
        "motion_range": "",
    }
)


def measure(masks: ArrayLike, spacing_mm: ArrayLike) -> Measures:
    """Measure a patient from the masks of both phases.

    A volume is a count of voxels. Walls are measured by area: around the centroid of a slice's
    LV cavity at ED, at both phases, a sector of angle w and area A has radius `sqrt(2 A / w)`,
    and the wall is the epicardial minus the endocardial radius. Sectors are 60 degrees wide, the
    first centred on the direction of the RV's centroid at ED, or on -x where there is no RV; a
    pixel across a border is shared out. A slice counts if it lies in the basal two thirds of
    the LV at ED (near the apex a slice cuts the wall at a slant and overstates it) and if all
    its sectors have a wall of 1 mm; for motion, at both phases. The base is the end where the
    cavity is wider.

    Args:
        masks: `(2, z, y, x)`, whole numbers 0 to 3.
        spacing_mm: `(3,)`: distance of slices, and extent of a pixel along y and x.

    Raises:
        InputError: If `masks` is no such array, or a spacing is not a positive number.
    """
    labels, spacing = np.asarray(masks), np.asarray(spacing_mm, dtype=np.float64)
    _require(labels, spacing)
    voxel_ml = float(spacing.prod()) / 1000
    lvedv, lvesv = ((labels == LV).sum(axis=(1, 2, 3)) * voxel_ml).tolist()
    rvedv, rvesv = ((labels == RV).sum(axis=(1, 2, 3)) * voxel_ml).tolist()
    wall_mm, thick_segments, motion_range = walls(labels, spacing)
    return Measures(
        lvedv=lvedv,
        lvesv=lvesv,
        lvsv=lvedv - lvesv,
        lvef=ejection_fraction(lvedv, lvesv),
        lvm=float((labels[0] == MYOCARDIUM).sum()) * voxel_ml * MYOCARDIAL_DENSITY,
        rvedv=rvedv,
        rvesv=rvesv,
        rvsv=rvedv - rvesv,
        rvef=ejection_fraction(rvedv, rvesv),
        wall_mm=wall_mm,
        thick_segments=thick_segments,
        motion_range=motion_range,
    )


def ejection_fraction(edv: float, esv: float) -> float:
    """Share of the end-diastolic volume that is ejected, in %; NaN where that volume is 0.

    Negative where `esv` is above `edv`, which is how a mix-up of phases shows.
    """
    return 100 * ((edv - esv) / edv) if edv > 0 else float("nan")


def bsa(height_cm: float, weight_kg: float) -> float:
    """Body surface area, in m^2.

    Raises:
        InputError: If height or weight is not a positive number.

    Source: Mosteller, N Engl J Med 317 (1987) 1098.
    """
    if not (0 < height_cm < np.inf and 0 < weight_kg < np.inf):
        raise InputError(
            f"bsa: expected a height in cm and a weight in kg above 0, got {height_cm}, {weight_kg}"
        )
    return float(np.sqrt(height_cm * weight_kg / 3600))


def _require(masks: NDArray[np.integer[Any]], spacing: Floats) -> None:
    if masks.ndim != 4 or len(masks) != 2 or not np.issubdtype(masks.dtype, np.integer):
        raise InputError(
            "measure: expected masks (2, z, y, x) of whole numbers, "
            f"got {masks.dtype} {masks.shape}"
        )
    if masks.size and (masks.min() < 0 or masks.max() > 3):
        raise InputError(f"measure: expected labels 0 to 3, got {masks.min()} to {masks.max()}")
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            "measure: expected spacing (z, y, x) in mm, three numbers above 0, "
            f"got {spacing.tolist()}"
        )
