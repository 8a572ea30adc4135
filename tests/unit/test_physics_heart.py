"""Closed-form volumes and walls of a heart against integration of its boundaries."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from robustbench_med.clinical.measures import MYOCARDIAL_DENSITY
from robustbench_med.errors import InputError
from robustbench_med.physics.heart import (
    PAPILLARY_SPAN,
    THETA,
    Heart,
    contracted_at,
    shape_at,
    wall_for_mass,
)
from robustbench_med.physics.measuring import measure_heart

NORMAL = Heart(166, 69, 182, 84, wall_mm=6.4)
HEARTS = {
    "normal": NORMAL,
    "long": replace(NORMAL, stretch=1.1),
    "hypertrophic": Heart(120, 40, 130, 50, wall_mm=9.5, septal_mm=11),
    "infarcted": Heart(190, 130, 160, 80, wall_mm=7, thinning_mm=2.5, akinesia=0.9,
                       territory_rad=0.8),
    "infarcted to the last": Heart(190, 130, 160, 80, wall_mm=4, thinning_mm=3, akinesia=1.0),
}  # fmt: skip
MOMENTS = (0.0, 0.35, 0.7, 1.0)
every_heart = pytest.mark.parametrize("heart", HEARTS.values(), ids=HEARTS)


def radius(table, theta, u):
    """Radius of a boundary: its table over the angle, and a quarter of an ellipse over z."""
    at_base = np.interp(theta, THETA, table, period=2 * np.pi)
    return at_base * np.sqrt(np.clip(1 - u**2, 0, None))


def volume_ml(*borders, steps=400):
    """Volume within `(table, length)` borders, each the reach beyond the one before it.

    By the midpoint rule, from the base to the end of the last of them.
    """
    longest = borders[-1][1]
    z = (np.arange(steps)[:, None] + 0.5) * longest / steps
    theta = (np.arange(720) + 0.5) * 2 * np.pi / 720
    total = sum(radius(table, theta, z / length) for table, length in borders)
    return float((total**2 / 2).mean() * 2 * np.pi * longest) / 1000


def volumes(heart, contracted):
    """Left cavity, left wall, right cavity, mL."""
    shape = shape_at(heart, contracted)
    left, outer = (shape.cavity, shape.length_mm), (shape.outer, shape.outer_length_mm)
    whole = volume_ml(outer, (shape.right, shape.right_length_mm))
    beside = volume_ml(outer, (0 * shape.right, shape.right_length_mm))
    return volume_ml(left), volume_ml(outer) - volume_ml(left), whole - beside


@every_heart
def test_the_boundaries_hold_the_volumes_that_were_asked_for(heart):
    for contracted, (left, right) in ((0, (heart.lvedv, heart.rvedv)),
                                      (1, (heart.lvesv, heart.rvesv))):  # fmt: skip
        found = volumes(heart, contracted)
        assert found[0] == pytest.approx(left, rel=1e-3)
        assert found[2] == pytest.approx(right, rel=1e-3)


@every_heart
def test_the_wall_keeps_its_mass_over_the_cycle_and_volumes_fall(heart):
    over_the_cycle = [volumes(heart, contracted) for contracted in MOMENTS]
    assert [wall for _, wall, _ in over_the_cycle] == pytest.approx([heart.myocardium_ml] * 4, 1e-3)
    assert heart.lvm == MYOCARDIAL_DENSITY * heart.myocardium_ml
    for one, next_one in pairwise(over_the_cycle):
        assert next_one[0] < one[0]
        assert next_one[2] < one[2]


@every_heart
def test_the_wall_surrounds_the_cavity_at_every_moment(heart):
    for contracted in MOMENTS:
        shape = shape_at(heart, contracted)
        assert (shape.outer > shape.cavity + 1).all()
        assert shape.outer_length_mm > shape.length_mm > shape.right_length_mm
        assert (shape.right >= 0).all()
        assert shape.right.argmax() == 0


def test_boundaries_agree_with_counting_voxels():
    heart = HEARTS["infarcted"]
    shape = shape_at(heart, 0.6)
    z, y, x = np.meshgrid(np.arange(0.5, 120), np.arange(-99.5, 100), np.arange(-99.5, 100),
                          indexing="ij", sparse=True)  # fmt: skip
    theta, away = np.arctan2(y, x) % (2 * np.pi), np.hypot(y, x)
    left = (away < radius(shape.cavity, theta, z / shape.length_mm)).sum() / 1000
    outer = radius(shape.outer, theta, z / shape.outer_length_mm)
    wall = (away < outer).sum() / 1000 - left
    beyond = radius(shape.right, theta, z / shape.right_length_mm)
    right = ((away >= outer) & (away < outer + beyond)).sum() / 1000
    assert (left, wall, right) == pytest.approx(volumes(heart, 0.6), rel=5e-3)


def test_papillary_muscles_keep_their_volume():
    for contracted in MOMENTS:
        shape = shape_at(NORMAL, contracted)
        span = (PAPILLARY_SPAN[1] - PAPILLARY_SPAN[0]) * shape.length_mm
        both = 2 * np.pi * shape.papillary_mm**2 * span / 1000
        assert both == pytest.approx(NORMAL.papillary_ml, rel=1e-9)
    assert NORMAL.papillary_ml == pytest.approx(0.04 * 166)


# A half ellipsoid of this volume and length within a wall of even thickness: REFERENCES 3.6.
@pytest.mark.parametrize(
    ("volume", "mass", "length", "inner", "thick"),
    [(166, 103, 95, 28.9, 6.4), (124, 70, 86, 26.2, 5.3)],
    ids=["male", "female"],
)
def test_mean_hearts_have_the_known_length_radius_and_wall(volume, mass, length, inner, thick):
    heart = Heart(volume, 0.4 * volume, volume, 0.4 * volume, wall_mm=1.0)
    assert heart.length_mm == pytest.approx(length, abs=0.5)
    assert heart.radius_mm == pytest.approx(inner, abs=0.1)
    assert wall_for_mass(heart, mass) == pytest.approx(thick, abs=0.1)


@every_heart
def test_the_wall_for_a_mass_has_that_mass(heart):
    for some in (heart, replace(heart, wall_mm=0.1)):  # its own wall makes no difference
        assert wall_for_mass(some, heart.lvm) == pytest.approx(heart.wall_mm, abs=1e-6)


def test_an_infarct_moves_less_and_the_rest_more():
    heart = HEARTS["infarcted"]
    away = np.abs(np.angle(np.exp(1j * (THETA - heart.territory_rad))))
    moved = 1 - heart.contraction
    assert moved[away.argmin()] == pytest.approx(0.1 * moved[away.argmax()], abs=1e-3)
    assert np.ptp(moved[away > np.deg2rad(66)]) < 1e-12
    assert measure_heart(heart).motion_range > 0.1
    assert measure_heart(NORMAL).motion_range == pytest.approx(0, abs=1e-9)


def test_a_septum_that_is_thick_is_measured_thick():
    thick = measure_heart(HEARTS["hypertrophic"])
    assert 15 < thick.wall_mm < 9.5 + 11
    assert thick.thick_segments >= 2
    plain = measure_heart(NORMAL)
    assert plain.thick_segments == 0
    assert plain.wall_mm == pytest.approx(6.4, abs=0.3)


def test_measures_follow_the_convention_of_the_papillary_muscles():
    cavity, mass = (measure_heart(NORMAL, papillary_in_cavity=flag) for flag in (True, False))
    moved = NORMAL.papillary_ml
    assert (cavity.lvedv, cavity.lvesv) == (166, 69)
    assert (mass.lvedv, mass.lvesv) == pytest.approx((166 - moved, 69 - moved))
    assert mass.lvm == pytest.approx(cavity.lvm + 1.05 * moved)
    assert mass.lvsv == pytest.approx(cavity.lvsv)
    assert mass.lvef == pytest.approx(100 * 97 / (166 - moved))
    assert (mass.rvedv, mass.rvef) == (cavity.rvedv, cavity.rvef)


def test_the_cycle_goes_down_by_36_percent_up_by_76_and_repeats():
    assert contracted_at(0) == 0
    assert contracted_at(0.36) == pytest.approx(1)
    assert contracted_at(0.18) == pytest.approx(0.5)
    assert contracted_at(0.9) == contracted_at(0.76 + 1e-12) == 0
    assert contracted_at(1.1) == pytest.approx(contracted_at(0.1))
    times = np.linspace(0, 1, 2001)
    values = np.array([contracted_at(time) for time in times])
    assert np.abs(np.diff(values)).max() < 0.003
    assert (np.diff(values[times <= 0.36]) > 0).all()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lvesv": 170.0}, "heart: volumes must satisfy 0 < ESV < EDV, got Heart(lvedv=166"),
        ({"lvedv": 0.0}, "heart: volumes must satisfy 0 < ESV < EDV, got Heart(lvedv=0.0"),
        ({"rvesv": -1.0}, "heart: volumes must satisfy 0 < ESV < EDV, got Heart(lvedv=166"),
        ({"rvedv": float("nan")}, "heart: volumes must satisfy 0 < ESV < EDV, got Heart("),
        ({"wall_mm": 0.0}, "heart: wall_mm and stretch must be above 0, got Heart("),
        ({"stretch": -1.0}, "heart: wall_mm and stretch must be above 0, got Heart("),
    ],
)
def test_impossible_settings_are_refused_in_one_line(change, line):
    with pytest.raises(InputError) as refusal:
        replace(NORMAL, **change)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change", [{"lvesv": 165.9}, {"lvesv": 2.0}, {"lvesv": 8.0, "akinesia": 1}]
)
def test_volumes_that_no_contraction_gives_are_refused(change):
    line = re.escape(f"heart: no contraction gives {change['lvesv']:g} mL with Heart(lvedv=166")
    with pytest.raises(InputError, match=line):
        shape_at(replace(NORMAL, **change), 1.0)


@pytest.mark.parametrize("mass", [1.0, 5000.0])
def test_a_mass_that_no_wall_gives_is_refused(mass):
    with pytest.raises(InputError, match=f"no wall of 3 to 40 mm gives {mass:g} g with Heart"):
        wall_for_mass(NORMAL, mass)
