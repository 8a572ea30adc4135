"""Clinical measures against shapes of known size, and the rules of diagnosis one by one."""

import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.clinical import (
    DIAGNOSES,
    REGIONAL_MOTION,
    UNITS,
    Measures,
    bsa,
    diagnose,
    ejection_fraction,
    measure,
)
from robustbench_med.errors import InputError

SPACING = (8.0, 1.25, 1.25)
NORMAL = Measures(
    lvedv=150, lvesv=60, lvsv=90, lvef=60, lvm=110, rvedv=160, rvesv=70, rvsv=90, rvef=56.25,
    wall_mm=8, thick_segments=0, motion_range=0.05,
)  # fmt: skip
FAILING = replace(NORMAL, lvedv=170, lvesv=119, lvsv=51, lvef=30)
DILATED = replace(FAILING, lvedv=220)
THICK = {"wall_mm": 18.0, "thick_segments": 4}


def polar(shape=(9, 80, 80), centre=(0.0, 0.0), spacing=SPACING):
    """Height over the base, radius and angle (from +x towards +y) of each voxel, in mm."""
    z, y, x = (np.arange(n) * step for n, step in zip(shape, spacing, strict=True))
    y, x = y - y.mean() - centre[0], x - x.mean() - centre[1]
    z, y, x = np.meshgrid(z + spacing[0] / 2, y, x, indexing="ij")
    return z, np.hypot(y, x), np.arctan2(y, x)


def ring(inner, outer, **grid):
    """A straight ventricle; the radii may vary with z and angle."""
    z, radius, angle = polar(**grid)
    inner, outer = (r(z, angle) if callable(r) else r for r in (inner, outer))
    return np.where(radius < inner, 1, np.where(radius < outer, 2, 0))


def within(angle, middle, half=np.pi / 6):
    return np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi) < half


def both(diastole, systole=None):
    return np.stack([diastole, diastole if systole is None else systole])


def with_rv(mask, towards):
    """Add an RV whose centroid lies in a direction."""
    _, radius, angle = polar(mask.shape)
    side = (radius > 42) & (radius < 48) & within(angle, towards, 0.4)
    return np.where(side, 3, mask)


def half_ellipsoid(radius, length, wall, spacing):
    z, r, _ = polar((60, 96, 96), spacing=spacing)
    mask = np.zeros(z.shape, dtype=np.int64)
    mask[(r / (radius + wall)) ** 2 + (z / (length + wall)) ** 2 < 1] = 2
    mask[(r / radius) ** 2 + (z / length) ** 2 < 1] = 1
    return mask


def test_volumes_mass_and_ejection_fraction_are_those_of_half_ellipsoids():
    spacing = (2.0, 1.0, 1.0)
    diastole = half_ellipsoid(28.9, 95, 6.4, spacing)
    systole = half_ellipsoid(22.0, 82, 9.4, spacing)
    found = measure(both(diastole, systole), spacing)

    def volume(radius, length):
        return 2 / 3 * math.pi * radius**2 * length / 1000

    edv, esv = volume(28.9, 95), volume(22, 82)
    assert found.lvedv == pytest.approx(edv, rel=0.005)
    assert found.lvesv == pytest.approx(esv, rel=0.005)
    assert found.lvsv == pytest.approx(edv - esv, rel=0.01)
    assert found.lvef == pytest.approx(100 * (1 - esv / edv), abs=0.5)
    assert found.lvm == pytest.approx(1.05 * (volume(35.3, 101.4) - edv), rel=0.01)
    assert found.wall_mm == pytest.approx(6.4, abs=0.2)
    assert found.motion_range < 0.02


def test_the_right_ventricle_is_measured_like_the_left():
    masks = np.zeros((2, 4, 10, 10), dtype=np.uint8)
    masks[0, :, :5] = 3
    masks[1, :, :2] = 3
    found = measure(masks, (10, 2, 1))
    assert (found.rvedv, found.rvesv, found.rvsv) == pytest.approx((4, 1.6, 2.4))
    assert found.rvef == pytest.approx(60)


@pytest.mark.parametrize("thickness", [5.0, 9.0, 14.0, 20.0])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.4, -3.1)])
def test_a_wall_of_one_thickness_is_measured_to_a_quarter_of_a_pixel(thickness, centre):
    found = measure(both(ring(24, 24 + thickness, centre=centre)), SPACING)
    assert found.wall_mm == pytest.approx(thickness, abs=0.3)
    assert found.thick_segments == (36 if thickness > 15 else 0)
    assert found.motion_range == 0


def test_only_the_thick_sectors_of_slices_that_count_are_counted():
    thick = ring(22, lambda _, angle: np.where(within(angle, np.pi), 40, 31))
    found = measure(both(thick), SPACING)
    assert found.wall_mm == pytest.approx(18, abs=0.3)
    assert found.thick_segments == 6


@pytest.mark.parametrize("towards", [0.0, 0.7, -2.2])
def test_sectors_start_at_the_right_ventricle(towards):
    thick = ring(22, lambda _, angle: np.where(within(angle, towards), 40, 31))
    found = measure(both(with_rv(thick, towards)), SPACING)
    assert found.wall_mm == pytest.approx(18, abs=0.4)
    assert found.thick_segments == 6
    turned = measure(both(with_rv(thick, towards + np.pi / 6)), SPACING)
    assert turned.wall_mm == pytest.approx(math.sqrt((40**2 + 31**2) / 2) - 22, abs=0.4)


@pytest.mark.parametrize("towards", [0.0, 1.0])
def test_a_sector_that_does_not_contract_shows_as_range_of_motion(towards):
    diastole = with_rv(ring(26, 35), towards)
    systole = ring(lambda _, angle: np.where(within(angle, towards + np.pi / 3), 26, 18), 38)
    found = measure(both(diastole, systole), SPACING)
    assert found.motion_range == pytest.approx(1 - 18 / 26, abs=0.01)


def test_even_contraction_has_no_range_whatever_its_size():
    for radius in (26, 20, 12):
        found = measure(both(ring(26, 35), ring(radius, 38)), SPACING)
        assert found.lvef == pytest.approx(100 * (1 - (radius / 26) ** 2), abs=1)
        assert found.motion_range < 0.03


def test_the_apical_third_does_not_count_from_whichever_end_it_comes():
    def cone(z, _):
        return 30 - z / 4

    def bulging(z, angle):
        return cone(z, angle) + np.where(z > 48, 20, 6)

    masks = both(ring(cone, bulging))
    for seen in (masks, masks[:, ::-1]):
        found = measure(seen, SPACING)
        assert found.wall_mm == pytest.approx(6, abs=0.3)
        assert found.thick_segments == 0


def test_a_slice_whose_wall_is_open_does_not_count():
    mask = ring(24, 40)
    mask[0][(mask[0] == 2) & within(polar()[2][0], 0.0, 0.6)] = 0
    assert measure(both(mask), SPACING).thick_segments == 5 * 6
    mask[:][(mask == 2) & within(polar()[2], 0.0, 0.6)] = 0
    assert math.isnan(measure(both(mask), SPACING).wall_mm)


def test_slices_without_a_cavity_at_systole_do_not_count_for_motion():
    diastole, systole = ring(24, 32), ring(16, 34)
    systole[:3] = np.where(systole[:3] > 0, 2, 0)
    assert measure(both(diastole, systole), SPACING).motion_range < 0.03
    systole[:] = np.where(systole > 0, 2, 0)
    found = measure(both(diastole, systole), SPACING)
    assert math.isnan(found.motion_range)
    assert found.lvef == 100


def test_nothing_found_is_no_volume_and_everything_else_undefined():
    found = asdict(measure(np.zeros((2, 3, 8, 8), dtype=int), SPACING))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"lvef", "rvef", "wall_mm", "thick_segments", "motion_range"}
    assert all(value == 0 for name, value in found.items() if name not in undefined)


@settings(deadline=None)
@given(st.floats(1, 4), st.integers(0, 2**20))
def test_scaling_the_voxels_scales_volumes_by_the_cube_and_walls_alike(factor, seed):
    rng = np.random.default_rng(seed)
    masks = both(ring(14, 22, shape=(4, 40, 40)), ring(10, 23, shape=(4, 40, 40)))
    masks = np.where(rng.random(masks.shape) < 0.02, 3, masks)
    one = measure(masks, SPACING)
    other = measure(masks, np.multiply(SPACING, factor))
    for name, unit in UNITS.items():
        power = {"mL": 3, "g": 3, "mm": 1}.get(unit, 0)
        if name != "thick_segments":
            expected = getattr(one, name) * factor**power
            assert getattr(other, name) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(st.floats(0.1, 1000), st.floats(0, 1))
def test_an_ejection_fraction_lies_between_0_and_100(edv, share):
    fraction = ejection_fraction(edv, edv * share)
    assert 0 <= fraction <= 100
    assert fraction == pytest.approx(100 * (1 - share))


def test_body_surface_is_mostellers():
    assert bsa(180, 80) == 2
    assert bsa(160, 56.25) == pytest.approx(math.sqrt(2.5))


def test_every_measure_has_a_unit():
    assert set(UNITS) == {field.name for field in fields(Measures)}


@pytest.mark.parametrize(
    ("measures", "male", "expected"),
    [
        (NORMAL, True, "NOR"),
        (replace(NORMAL, lvef=50), True, None),
        (replace(NORMAL, lvef=50.1), True, "NOR"),
        (replace(NORMAL, lvedv=180), True, None),
        (replace(NORMAL, lvedv=165), False, None),
        (replace(NORMAL, lvedv=165), True, "NOR"),
        (replace(NORMAL, wall_mm=12), True, None),
        (replace(NORMAL, rvedv=200), True, None),
        (replace(NORMAL, rvef=45), True, None),
        (replace(NORMAL, rvef=40), True, None),
        (replace(NORMAL, rvef=45.1), True, "NOR"),
        (replace(NORMAL, rvef=39.9), True, "RV"),
        (replace(NORMAL, rvedv=221), True, "RV"),
        (replace(NORMAL, rvedv=219), True, None),
        (replace(NORMAL, rvedv=201), False, "RV"),
        (replace(NORMAL, rvedv=240, rvef=42), True, None),
        (replace(NORMAL, lvef=45), True, None),
        (replace(NORMAL, lvef=45, rvef=35), True, "RV"),
        (DILATED, True, "DCM"),
        (replace(DILATED, lvef=40), True, None),
        (replace(DILATED, lvedv=200), True, None),
        (replace(DILATED, wall_mm=12), True, None),
        (replace(DILATED, rvef=42), True, "DCM"),
        (replace(NORMAL, **THICK), True, "HCM"),
        (replace(NORMAL, **THICK, lvef=55), True, None),
        (replace(NORMAL, wall_mm=18, thick_segments=1), True, None),
        (replace(NORMAL, wall_mm=14), True, None),
        (replace(FAILING, motion_range=REGIONAL_MOTION), True, "MINF"),
        (FAILING, True, None),
        (replace(FAILING, motion_range=0.3, lvef=40), True, None),
        # The tie-breaks.
        (replace(DILATED, rvedv=260, rvef=30), True, "DCM"),
        (replace(FAILING, **THICK), True, "MINF"),
        (replace(DILATED, motion_range=0.2), True, "MINF"),
        (replace(FAILING, motion_range=0.3, rvef=30), True, "MINF"),
        (replace(NORMAL, **THICK, rvef=30), True, "HCM"),
    ],
)
def test_a_diagnosis_follows_the_rules_and_their_order(measures, male, expected):
    assert diagnose(measures, bsa=2.0, male=male) == expected


def test_a_measure_that_is_undefined_leaves_no_diagnosis():
    for name in ("lvedv", "lvef", "rvedv", "rvef", "wall_mm", "thick_segments", "motion_range"):
        for patient in (NORMAL, DILATED, replace(NORMAL, rvef=30)):
            assert diagnose(replace(patient, **{name: math.nan}), bsa=2.0, male=True) is None
    assert diagnose(replace(NORMAL, lvm=math.nan), bsa=2.0, male=True) == "NOR"


def test_a_margin_refuses_those_nearer_to_a_limit_than_it():
    def ask(margin, **changed):
        return diagnose(replace(NORMAL, **changed), bsa=2.0, male=True, margin=margin)

    assert ask(0.03) == "NOR"
    assert (ask(0.03, lvef=51.6), ask(0.03, lvef=51.4)) == ("NOR", None)
    assert (ask(0.03, lvedv=174), ask(0.03, lvedv=175)) == ("NOR", None)
    assert (ask(0.03, rvef=38.7), ask(0.03, rvef=38.9)) == ("RV", None)
    # Surely an RV, and possibly an HCM, which comes first.
    assert ask(0.03, rvef=30, lvef=54, **THICK) is None
    assert ask(0.0, rvef=30, lvef=54, **THICK) == "RV"


@settings(deadline=None)
@given(
    st.sampled_from([NORMAL, FAILING, DILATED, replace(NORMAL, **THICK)]),
    st.lists(st.floats(0.8, 1.15), min_size=6, max_size=6),
    st.floats(0, 1),
    st.lists(st.floats(0.001, 0.999), min_size=6, max_size=6),
    st.booleans(),
)
def test_an_answer_with_a_margin_stays_when_every_measure_moves_by_less(
    patient, scale, motion, moves, male
):
    margin = 0.1
    names = ("lvedv", "lvef", "rvedv", "rvef", "wall_mm", "motion_range")
    start = replace(patient, motion_range=0.05 + 0.2 * motion)
    drawn = replace(start, **{n: getattr(start, n) * s for n, s in zip(names, scale, strict=True)})
    answer = diagnose(drawn, bsa=2.0, male=male, margin=margin)
    low, high = 1 / (1 + margin), 1 / (1 - margin)
    moved = {
        n: getattr(drawn, n) * (low + (high - low) * share)
        for n, share in zip(names, moves, strict=True)
    }
    if answer is not None:
        assert answer in DIAGNOSES
        assert diagnose(replace(drawn, **moved), bsa=2.0, male=male) == answer


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (np.zeros((2, 8, 8), dtype=int), r"masks \(2, z, y, x\)"),
        (np.zeros((3, 2, 8, 8), dtype=int), r"masks \(2, z, y, x\)"),
        (np.zeros((2, 2, 8, 8)), "whole numbers"),
        (np.full((2, 2, 8, 8), 4), "labels 0 to 3, got 4 to 4"),
        (np.full((2, 2, 8, 8), -1), "labels 0 to 3"),
    ],
)
def test_masks_of_another_kind_are_refused(masks, said):
    with pytest.raises(InputError, match=said):
        measure(masks, SPACING)


@pytest.mark.parametrize("spacing", [(8, 1), (0, 1, 1), (8, -1, 1), (8, math.nan, 1), 1.0])
def test_a_spacing_must_be_three_positive_numbers(spacing):
    with pytest.raises(InputError, match="three numbers above 0"):
        measure(np.zeros((2, 2, 8, 8), dtype=int), spacing)


def test_a_body_of_no_size_is_refused():
    for size in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="bsa"):
            bsa(size, 70)
        with pytest.raises(InputError, match="bsa must be a positive number"):
            diagnose(NORMAL, bsa=size, male=True)
    for margin in (-0.1, 1.0, math.nan):
        with pytest.raises(InputError, match="margin"):
            diagnose(NORMAL, bsa=2.0, male=True, margin=margin)
