"""A heart of known volume: two ventricles and their wall, from end-diastole to end-systole.

Everything is told in polar coordinates about the long axis of the left ventricle: `z` runs from
the base (0) to the apex, and the angle from the middle of the septum, where the right ventricle
lies. Boundaries are radii `table(angle) * q(z / length)` with `q(u) = sqrt(1 - u^2)`, so that
volumes are products of one integral over the angle and one over z, and a wanted volume has a
closed-form radius.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from robustbench_med.clinical.measures import MYOCARDIAL_DENSITY
from robustbench_med.errors import InputError

Table = NDArray[np.floating]
ANGLES = 240
THETA: Table = np.arange(ANGLES) * (2 * np.pi / ANGLES)
LENGTH_PER_CUBE_ROOT = 17.27  # mm per mL^(1/3): 95 mm at 166 mL, 86 mm at 124 mL
RV_LENGTH = 0.88  # of the left ventricle's
RV_HALF_WIDTH_DEG = 88.0
RV_WALL_MM = 3.0
PAPILLARY_SHARE = 0.04  # of the end-diastolic cavity
PAPILLARY_SPAN = (0.30, 0.65)  # of the cavity's length
PAPILLARY_ANGLES = (np.deg2rad(130.0), np.deg2rad(-130.0))
PAPILLARY_RADIUS = 0.60  # of the cavity's radius
THINNEST_MM = 3.0
SEPTUM_DEG, TERRITORY_DEG = 80.0, 65.0  # half widths


@dataclass(frozen=True)
class Heart:
    """What decides a heart's geometry.

    Attributes:
        lvedv: Volume of the left cavity at end-diastole, papillary muscles included, mL; likewise
            `lvesv` at end-systole and `rvedv`, `rvesv` of the right cavity.
        wall_mm: Thickness of the left wall at end-diastole, where it is neither thick nor thin.
        stretch: Length of the long axis relative to what the volume predicts.
        septal_mm: Added to the wall in the middle of the septum (hypertrophy).
        thinning_mm: Taken from the wall in the middle of the territory (infarct).
        akinesia: Share of the contraction that is lost in the middle of the territory, 0 to 1.
        territory_rad: Direction of the territory from the middle of the septum.
    """

    lvedv: float
    lvesv: float
    rvedv: float
    rvesv: float
    wall_mm: float
    stretch: float = 1.0
    septal_mm: float = 0.0
    thinning_mm: float = 0.0
    akinesia: float = 0.0
    territory_rad: float = np.pi

    def __post_init__(self) -> None:
        if not (0 < self.lvesv < self.lvedv and 0 < self.rvesv < self.rvedv):
            raise InputError(f"heart: volumes must satisfy 0 < ESV < EDV, got {self}")
        if self.wall_mm <= 0 or self.stretch <= 0:
            raise InputError(f"heart: wall_mm and stretch must be above 0, got {self}")

    @cached_property
    def length_mm(self) -> float:
        """Long axis of the cavity at end-diastole."""
        return self.stretch * LENGTH_PER_CUBE_ROOT * float(np.cbrt(self.lvedv))

    @cached_property
    def shortening_mm(self) -> float:
        """By how much the apex rises: 14 % of the length at an ejection fraction of 60 %."""
        fraction = 1 - self.lvesv / self.lvedv
        return self.length_mm * float(np.clip(0.14 * fraction / 0.6, 0.03, 0.17))

    @cached_property
    def radius_mm(self) -> float:
        """Radius of the cavity at the base, at end-diastole."""
        return float(np.sqrt(3e3 * self.lvedv / (2 * np.pi * self.length_mm)))

    @cached_property
    def wall(self) -> Table:
        """Thickness of the left wall at the base by angle, mm, at end-diastole."""
        thickness: Table = np.maximum(self.wall_mm + self.uneven, THINNEST_MM)
        return thickness

    @cached_property
    def uneven(self) -> Table:
        """What hypertrophy and infarct add to `wall_mm`, by angle, mm."""
        septum = self.septal_mm * bump(THETA, 0.0, SEPTUM_DEG)
        table: Table = septum - self.thinning_mm * bump(THETA, self.territory_rad, TERRITORY_DEG)
        return table

    @cached_property
    def contraction(self) -> Table:
        """Radius of the cavity at end-systole over that at end-diastole, by angle.

        The lost share is fixed by the territory; what the rest must do for the end-systolic
        volume is the root of a quadratic equation.
        """
        lost = self.akinesia * bump(THETA, self.territory_rad, TERRITORY_DEG)
        length = self.length_mm - self.shortening_mm
        wanted = 3e3 * self.lvesv / (length * self.radius_mm**2)
        a, b, c = (integral(f) for f in ((1 - lost) ** 2, (1 - lost) * lost, lost**2))
        root = b**2 - a * (c - wanted)
        rest = (np.sqrt(root) - b) / a if root > 0 else -1.0
        if not 0.15 < rest < 1:
            raise InputError(f"heart: no contraction gives {self.lvesv:g} mL with {self}")
        share: Table = rest + (1 - rest) * lost
        return share

    @cached_property
    def myocardium_ml(self) -> float:
        """Volume of the left wall; it does not change over the cycle."""
        outer = (self.length_mm + self.wall_mm) * integral((self.radius_mm + self.wall) ** 2)
        return outer / 3e3 - self.lvedv

    @property
    def lvm(self) -> float:
        """Mass of the left wall, g."""
        return MYOCARDIAL_DENSITY * self.myocardium_ml

    @property
    def papillary_ml(self) -> float:
        """Volume of the papillary muscles; it does not change over the cycle."""
        return PAPILLARY_SHARE * self.lvedv


@dataclass(frozen=True)
class Shape:
    """The boundaries of a heart at one moment.

    Attributes:
        cavity: Radius of the left cavity at the base by angle, mm, of length `length_mm`.
        outer: Radius of the outer wall at the base by angle, of length `outer_length_mm`.
        right: Reach of the right cavity beyond the outer wall at the base, by angle, of length
            `right_length_mm`.
        papillary_mm: Radius of each papillary muscle.
    """

    cavity: Table
    length_mm: float
    outer: Table
    outer_length_mm: float
    right: Table
    right_length_mm: float
    papillary_mm: float


def shape_at(heart: Heart, contracted: float) -> Shape:
    """Return the boundaries at `contracted`: 0 at end-diastole, 1 at end-systole."""
    radius, length = heart.radius_mm, heart.length_mm
    shorter = contracted * heart.shortening_mm
    cavity = radius * (1 - contracted * (1 - heart.contraction))
    outer_length = length + heart.wall_mm - shorter
    # Each sector keeps its own muscle, so it thickens exactly as it contracts.
    muscle = (length + heart.wall_mm) * (radius + heart.wall) ** 2 - length * radius**2
    outer = np.sqrt((muscle + cavity**2 * (length - shorter)) / outer_length)
    volume = heart.rvedv - contracted * (heart.rvedv - heart.rvesv)
    right_length = RV_LENGTH * (length - shorter)
    reach = _reach(volume, outer, outer_length, right_length)
    span = (PAPILLARY_SPAN[1] - PAPILLARY_SPAN[0]) * (length - shorter)
    papillary = float(np.sqrt(1e3 * heart.papillary_ml / (2 * np.pi * span)))
    return Shape(cavity, length - shorter, outer, outer_length,
                 reach * CRESCENT, right_length, papillary)  # fmt: skip


def _reach(volume_ml: float, outer: Table, outer_length: float, right_length: float) -> float:
    """Reach of the right cavity in the middle of the septum that gives it `volume_ml`."""
    z = (np.arange(200) + 0.5) * (right_length / 200)
    both = float(np.sum(q(z / outer_length) * q(z / right_length))) * right_length / 200
    a = 0.5 * integral(CRESCENT**2) * (2 / 3) * right_length
    b = integral(outer * CRESCENT) * both
    return float((np.sqrt(b**2 + 4e3 * a * volume_ml) - b) / (2 * a))


def wall_for_mass(heart: Heart, mass_g: float) -> float:
    """Thickness of the wall that gives the heart a mass, mm; its own `wall_mm` is not used.

    Raises:
        InputError: If no thickness from 3 to 40 mm does.
    """

    def excess(wall_mm: float) -> float:
        wall = np.maximum(wall_mm + heart.uneven, THINNEST_MM)
        outer = (heart.length_mm + wall_mm) * integral((heart.radius_mm + wall) ** 2) / 3e3
        return MYOCARDIAL_DENSITY * (outer - heart.lvedv) - mass_g

    if excess(THINNEST_MM) > 0 or excess(40.0) < 0:
        raise InputError(f"heart: no wall of 3 to 40 mm gives {mass_g:g} g with {heart}")
    return float(brentq(excess, THINNEST_MM, 40.0))


def contracted_at(time: float) -> float:
    """How far the heart has contracted at `time`, a share of the cycle: 0 to 1 and back.

    A raised cosine down to end-systole at 36 % of the cycle, faster back up to 76 %, then rest.
    """
    time = time % 1.0
    if time <= 0.36:
        return 0.5 - 0.5 * float(np.cos(np.pi * time / 0.36))
    if time <= 0.76:
        return 0.5 + 0.5 * float(np.cos(np.pi * (time - 0.36) / 0.40))
    return 0.0


def q(u: Table) -> Table:
    """Radius over the radius at the base, at the share `u` of the length; 0 beyond it."""
    radius: Table = np.sqrt(np.clip(1 - np.square(u), 0, None))
    return radius


def bump(theta: Table, centre: float, half_width_deg: float) -> Table:
    """Squared cosine about `centre`: 1 there, 0 from `half_width_deg` on."""
    away = np.abs((theta - centre + np.pi) % (2 * np.pi) - np.pi)
    share = np.clip(away / np.deg2rad(half_width_deg), 0, 1)
    height: Table = np.cos(0.5 * np.pi * share) ** 2
    return height


def integral(table: Table) -> float:
    """Integral over the angle; exact to rounding for smooth periodic tables."""
    return float(table.mean() * 2 * np.pi)


# A cosine: blunter at its ends than a squared one, as the right ventricle's insertions are.
CRESCENT: Table = np.sqrt(bump(THETA, 0.0, RV_HALF_WIDTH_DEG))
