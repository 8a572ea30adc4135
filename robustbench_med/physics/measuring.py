"""A heart's clinical measures from its geometry, without any voxel."""

import numpy as np

from robustbench_med.clinical import Measures, ejection_fraction
from robustbench_med.clinical.measures import MYOCARDIAL_DENSITY
from robustbench_med.clinical.walls import SECTORS, THICK_MM
from robustbench_med.physics.heart import (
    ANGLES,
    Heart,
    Shape,
    Table,
    q,
    shape_at,
)

SLICE_MM = 10.0


def measure_heart(heart: Heart, *, papillary_in_cavity: bool = True) -> Measures:
    """Measure a heart as `clinical.measure` does from masks, but from its boundaries.

    Args:
        heart: Whose.
        papillary_in_cavity: Whether the papillary muscles count as cavity, or as wall.
    """
    moved = 0.0 if papillary_in_cavity else heart.papillary_ml
    lvedv, lvesv = heart.lvedv - moved, heart.lvesv - moved
    diastole, systole = shape_at(heart, 0.0), shape_at(heart, 1.0)
    # The slices that `clinical` looks at: the basal two thirds of the cavity.
    z = np.arange(SLICE_MM / 2, 2 * heart.length_mm / 3, SLICE_MM)[:, None]
    thickness = _outer(diastole, z) - _cavity(diastole, z)
    shortening = (1 - _cavity(systole, z) / _cavity(diastole, z)).mean(axis=0)
    return Measures(
        lvedv=lvedv,
        lvesv=lvesv,
        lvsv=lvedv - lvesv,
        lvef=ejection_fraction(lvedv, lvesv),
        lvm=heart.lvm + moved * MYOCARDIAL_DENSITY,
        rvedv=heart.rvedv,
        rvesv=heart.rvesv,
        rvsv=heart.rvedv - heart.rvesv,
        rvef=ejection_fraction(heart.rvedv, heart.rvesv),
        wall_mm=float(thickness.max()),
        thick_segments=int((thickness > THICK_MM).sum()),
        motion_range=float(np.ptp(shortening)),
    )


def _cavity(shape: Shape, z: Table) -> Table:
    return _by_sector(shape.cavity) * q(z / shape.length_mm)


def _outer(shape: Shape, z: Table) -> Table:
    return _by_sector(shape.outer) * q(z / shape.outer_length_mm)


def _by_sector(table: Table) -> Table:
    """Radius of the disc sector of equal area; the first sector is centred on the septum."""
    width = ANGLES // SECTORS
    turned = np.roll(np.square(table), width // 2)
    radius: Table = np.sqrt(turned.reshape(SECTORS, width).mean(axis=1))
    return radius
