"""Clinical limits against every label map that the class sets allow."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.clinical import (
    Measures,
    WallLimits,
    diagnose,
    diagnosis_limits,
    dice_limits,
    ejection_fraction,
    ejection_fraction_limits,
    mass_limits,
    measure,
    overlap_limits,
    patient_limits,
    stroke_volume_limits,
    volume_limits,
)
from robustbench_med.errors import InputError

COUNTED = ("lvedv", "lvesv", "lvsv", "lvef", "lvm", "rvedv", "rvesv", "rvsv", "rvef")


@st.composite
def class_sets(draw, classes=3, pixels=6):
    """Sets of `classes` classes of a few pixels, none empty, `(k, n)`."""
    sets = st.integers(1, 2**classes - 1)
    codes = np.array(draw(st.lists(sets, min_size=1, max_size=pixels)))
    return (codes >> np.arange(classes)[:, None]) % 2 == 1


def label_maps(can):
    """Every label map that the sets allow, `(maps, n)`."""
    return np.array(list(itertools.product(*(np.flatnonzero(one) for one in can.T))))


def dice(predicted, true):
    total = predicted.sum() + true.sum()
    return 2 * (predicted & true).sum() / total if total else math.nan


@given(class_sets())
def test_volumes_are_the_extremes_over_every_label_map(can):
    counts = np.array([(label_maps(can) == label).sum(axis=1) for label in range(3)])
    assert (volume_limits(can) == np.stack([counts.min(axis=1), counts.max(axis=1)], axis=1)).all()


@given(class_sets(), st.data())
def test_dice_is_the_extreme_over_every_label_map(can, data):
    target = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=can.shape[1], max_size=can.shape[1]))
    )
    for label in range(3):
        found = [dice(one == label, target == label) for one in label_maps(can)]
        defined = [value for value in found if not math.isnan(value)]
        low, high = dice_limits(can, target, label)
        if defined:
            assert (low, high) == pytest.approx((min(defined), max(defined)), abs=1e-12)
        else:
            assert math.isnan(low)
            assert math.isnan(high)


@given(class_sets(), st.data())
def test_overlaps_of_slices_add_up_to_that_of_the_volume(can, data):
    target = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=can.shape[1], max_size=can.shape[1]))
    )
    cut = data.draw(st.integers(0, can.shape[1]))
    parts = overlap_limits(can[:, :cut], target[:cut], 1) + overlap_limits(
        can[:, cut:], target[cut:], 1
    )
    assert parts == overlap_limits(can, target, 1)


def test_pixels_that_may_become_another_class_but_not_this_one_stay_out():
    can = np.zeros((3, 2, 2), dtype=bool)
    can[0, 0], can[1, 0] = True, True  # background or class 1, never 2
    can[2, 1] = True
    assert volume_limits(can).tolist() == [[0, 2], [0, 2], [2, 2]]


@settings(max_examples=60)
@given(class_sets(2, 5), class_sets(2, 5))
def test_ejection_fraction_is_the_extreme_over_both_phases(diastole, systole):
    edvs, esvs = ((label_maps(can) == 1).sum(axis=1) for can in (diastole, systole))
    edv, esv = (tuple(volume_limits(can)[1].tolist()) for can in (diastole, systole))
    strokes = [ed - es for ed, es in itertools.product(edvs, esvs)]
    assert stroke_volume_limits(edv, esv) == (min(strokes), max(strokes))
    found = [ejection_fraction(ed, es) for ed, es in itertools.product(edvs, esvs) if ed > 0]
    low, high = ejection_fraction_limits(edv, esv)
    if not found:
        assert math.isnan(low)
        assert math.isnan(high)
    elif edv[0] > 0:
        assert (low, high) == (min(found), max(found))
    else:
        assert low <= min(found)
        assert high == max(found)


def test_an_end_diastolic_volume_that_may_vanish_leaves_no_lower_limit():
    assert ejection_fraction_limits((0, 10), (2, 4)) == (-math.inf, 80)
    assert ejection_fraction_limits((0, 10), (0, 0)) == (100, 100)
    assert all(map(math.isnan, ejection_fraction_limits((0, 0), (0, 3))))


def test_mass_is_volume_times_density():
    assert mass_limits((100, 120)) == pytest.approx((105, 126))


# A straight ventricle whose ring of unsure pixels lies at its borders, at a spacing that makes
# its volumes those of a heart.
SPACING = np.array([12.0, 4.0, 4.0])


def heart(cavity, wall):
    y, x = np.mgrid[:20, :20] - 9.5
    radius = np.hypot(y, x + 2.5) * 4
    mask = np.where(radius < cavity, 1, np.where(radius < cavity + wall, 2, 0))
    mask[(radius >= cavity + wall) & (x > 5) & (abs(y) < 8)] = 3
    return np.stack([mask] * 5)


def unsure_heart(rng, cavity, wall, share):
    """Class sets of a heart `(4, z, y, x)`: the truth, and at some pixels what lies beside it."""
    mask = heart(cavity, wall)
    can = np.arange(4)[:, None, None, None] == mask
    for shift in (-1, 1):
        for axis in (2, 3):
            can |= np.roll(can, shift, axis) & (rng.random(mask.shape) < share)
    return can


def drawn_map(rng, can):
    """A label map that the sets allow: at random, or with one class kept or shunned throughout."""
    order = rng.random(can.shape) if rng.random() < 0.3 else rng.random((4, 1, 1, 1))
    return np.where(can, order, -1).argmax(axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_no_label_map_of_a_patient_leaves_its_limits(seed):
    rng = np.random.default_rng(seed)
    share = (0.02, 0.05, 0.1, 0.2, 0.4, 0.02)[seed]
    phases = [
        unsure_heart(rng, 31, (14, 8)[seed % 2], share),
        unsure_heart(rng, (22, 28)[seed % 3 > 0], 10, share),
    ]
    counts = [np.stack([volume_limits(one) for one in can.swapaxes(0, 1)]) for can in phases]
    limits = patient_limits(*counts, SPACING)
    for bsa, male in itertools.product((1.2, 1.6, 2.0), (True, False)):
        possible = limits.diagnoses(bsa=bsa, male=male)
        for _ in range(12):
            found = measure(np.stack([drawn_map(rng, can) for can in phases]), SPACING)
            for name in COUNTED:
                low, high = getattr(limits, name)
                assert low <= getattr(found, name) <= high
            assert diagnose(found, bsa=bsa, male=male) in possible


def test_the_limits_of_a_certain_patient_are_its_measures():
    masks = np.stack([heart(31, 8), heart(22, 10)])
    counts = [
        np.stack([volume_limits(np.arange(4)[:, None, None] == one) for one in phase])
        for phase in masks
    ]
    limits, found = patient_limits(*counts, SPACING), measure(masks, SPACING)
    assert {name: getattr(limits, name) for name in COUNTED} == {
        name: (getattr(found, name),) * 2 for name in COUNTED
    }
    walls = WallLimits(
        *((value, value) for value in (found.wall_mm, found.thick_segments, found.motion_range))
    )
    for bsa in np.linspace(1.0, 2.4, 15):
        answer = diagnose(found, bsa=float(bsa), male=True)
        assert limits.diagnoses(bsa=float(bsa), male=True, walls=walls) == {answer}
        assert limits.diagnoses(bsa=float(bsa), male=True) >= {answer, None}


EXAMPLE = Measures(
    lvedv=150, lvesv=60, lvsv=90, lvef=60, lvm=110, rvedv=160, rvesv=70, rvsv=90, rvef=56.25,
    wall_mm=8, thick_segments=0, motion_range=0.05,
)  # fmt: skip
EXAMPLE_GRIDS = {
    "lvedv": np.arange(0, 131, 2.5), "lvef": np.arange(30, 61), "rvedv": np.arange(50, 121, 2.5),
    "rvef": np.arange(30, 61), "wall_mm": np.arange(8, 19), "thick_segments": np.arange(6),
    "motion_range": np.arange(0, 0.21, 0.01).round(2),
}  # fmt: skip


@st.composite
def boxes(draw):
    """Limits of each measure that the rules read; their ends often at or beside a cut."""
    places = {
        "lvedv": (0, 70, 80, 85, 90, 95, 100, 130), "lvef": (30, 40, 45, 50, 52, 55, 60),
        "rvedv": (50, 95, 100, 105, 110, 120), "rvef": (30, 40, 42, 45, 60),
        "wall_mm": (8, 12, 13, 15, 18), "thick_segments": (0, 1, 2, 5),
        "motion_range": (0.0, 0.1, 0.12, 0.2),
    }  # fmt: skip
    return {
        name: tuple(sorted(draw(st.tuples(*[st.sampled_from(values)] * 2))))
        for name, values in places.items()
    }


@settings(max_examples=40, deadline=None)
@given(boxes(), st.booleans(), st.sampled_from([1.0, 1.7]), st.integers(0, 2**32))
def test_no_diagnosis_that_a_point_of_the_box_has_is_missing(box, male, bsa, seed):
    box |= {name: (box[name][0] * bsa, box[name][1] * bsa) for name in ("lvedv", "rvedv")}
    rng = np.random.default_rng(seed)
    walls = WallLimits(*(box[name] for name in ("wall_mm", "thick_segments", "motion_range")))
    found = diagnosis_limits(box, bsa=bsa, male=male, walls=walls)
    absent = dict.fromkeys(asdict(EXAMPLE), 0.0)
    seen = set()
    cuts = {
        "lvedv": (80, 90, 100), "lvef": (40, 50, 55), "rvedv": (100, 110), "rvef": (40, 45),
        "wall_mm": (12, 15), "thick_segments": (1,), "motion_range": (0.12,),
    }  # fmt: skip
    for _ in range(800):
        drawn = {}
        for name, (low, high) in box.items():
            scale = bsa if name in ("lvedv", "rvedv") else 1
            inside = [low, high, *(c * scale for c in cuts[name] if low <= c * scale <= high)]
            drawn[name] = rng.uniform(low, high) if rng.random() < 0.6 else rng.choice(inside)
        seen.add(diagnose(Measures(**absent | drawn), bsa=bsa, male=male))
    assert seen <= found
    assert found <= diagnosis_limits(box, bsa=bsa, male=male)


@settings(max_examples=40, deadline=None)
@given(
    boxes(), st.booleans(), st.sets(st.sampled_from(sorted(EXAMPLE_GRIDS)), min_size=2, max_size=2)
)
def test_diagnoses_are_exactly_those_on_a_fine_grid(box, male, free):
    box = {name: one if name in free else (one[0], one[0]) for name, one in box.items()}
    walls = WallLimits(*(box[name] for name in ("wall_mm", "thick_segments", "motion_range")))
    axes = {
        name: np.unique([*one, *(v for v in EXAMPLE_GRIDS[name] if one[0] <= v <= one[1])])
        for name, one in box.items()
    }
    undefined = {None} if min(box["lvedv"][0], box["rvedv"][0]) == 0 else set()
    seen = {
        diagnose(replace(EXAMPLE, **dict(zip(axes, point, strict=True))), bsa=1.0, male=male)
        for point in itertools.product(*axes.values())
    }
    assert diagnosis_limits(box, bsa=1.0, male=male, walls=walls) == seen | undefined


def test_a_normal_heart_far_from_every_cut_stays_normal():
    limits = {"lvedv": (145, 155), "lvef": (58, 62), "rvedv": (155, 165), "rvef": (52, 58)}
    walls = WallLimits((7, 9), (0, 0), (0.03, 0.08))
    assert diagnosis_limits(limits, bsa=1.9, male=True, walls=walls) == {"NOR"}
    # Without the walls it may be thick, thin or undefined, but it cannot be failing.
    assert diagnosis_limits(limits, bsa=1.9, male=True) == {"NOR", "HCM", None}
    low = limits | {"lvef": (38, 62)}
    assert diagnosis_limits(low, bsa=1.9, male=True, walls=walls) == {"NOR", None}


def test_a_value_that_exactly_meets_a_cut_on_both_sides_is_not_lost():
    # For women an RV of 100 mL/m^2 is neither normal (below 100) nor wide (above 100).
    limits = {"lvedv": (70, 70), "lvef": (60, 60), "rvedv": (98, 101), "rvef": (50, 50)}
    walls = WallLimits((8, 8), (0, 0), (0, 0))
    assert diagnosis_limits(limits, bsa=1.0, male=False, walls=walls) == {"NOR", "RV", None}
    exact = diagnose(replace(EXAMPLE, lvedv=70, lvef=60, rvedv=100, rvef=50), bsa=1.0, male=False)
    assert exact is None


@pytest.mark.parametrize(
    ("changed", "answers"),
    [
        ({"lvef": (39, 90), "wall": 18}, {"MINF", "HCM", None}),
        ({"lvef": (49, 90)}, {"NOR", None}),
        ({"rvef": (39, 80)}, {"NOR", "RV", None}),
        ({"lvef": (20, 20), "lvedv": (50, 101)}, {"DCM", None}),
        ({"lvedv": (50, 200)}, {"NOR", None}),
        ({"rvedv": (50, 112)}, {"NOR", "RV", None}),
        ({"lvef": (-math.inf, 90), "wall": 18}, {"MINF", "HCM", None}),
    ],
)  # fmt: skip
def test_a_narrow_band_between_two_diagnoses_is_not_lost(changed, answers):
    limits = {"lvedv": (70, 70), "lvef": (60, 60), "rvedv": (90, 90), "rvef": (50, 50)}
    wall = changed.get("wall", 8)
    walls = WallLimits((wall, wall), (0 if wall < 15 else 3,) * 2, (0, 0))
    box = limits | {name: one for name, one in changed.items() if name != "wall"}
    assert diagnosis_limits(box, bsa=1.0, male=True, walls=walls) == answers


def test_a_volume_that_may_be_0_may_leave_no_diagnosis():
    limits = {"lvedv": (0, 1), "lvef": (60, 60), "rvedv": (0, 1), "rvef": (60, 60)}
    walls = WallLimits((8, 8), (0, 0), (0, 0))
    assert diagnosis_limits(limits, bsa=1.0, male=True, walls=walls) == {"NOR", None}
    nothing = limits | {"lvedv": (0, 0), "lvef": (math.nan, math.nan)}
    assert diagnosis_limits(nothing, bsa=1.0, male=True, walls=walls) == {None}


SETS = np.ones((2, 2), dtype=bool)
BOX = {"lvedv": (1, 2), "lvef": (1, 2), "rvedv": (1, 2), "rvef": (1, 2)}
COUNTS = np.ones((3, 4, 2), dtype=np.int64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: volume_limits(SETS.astype(float)), "of booleans, got float64"),
        (lambda: volume_limits(SETS & [True, False]), "1 pixels with none"),
        (lambda: dice_limits(SETS, [0, 1, 1], 1), r"whole numbers \(2,\), got int64 \(3,\)"),
        (lambda: dice_limits(SETS, [0, 1], 2), "label must be from 0 to 1, got 2"),
        (lambda: ejection_fraction_limits((2, 1), (0, 1)), r"edv must be .* got \(2, 1\)"),
        (lambda: stroke_volume_limits((1, 2), (-1, 1)), "esv must be"),
        (lambda: mass_limits((0, math.inf)), "two finite volumes"),
        (lambda: diagnosis_limits({"lvedv": (1, 2)}, bsa=1, male=True), "lvef, rvedv, rvef"),
        (lambda: diagnosis_limits(BOX | {"rvef": (3, 2)}, bsa=1, male=True), "rvef must be"),
        (lambda: diagnosis_limits(BOX, bsa=0, male=True), "bsa must be a positive"),
        (lambda: patient_limits(COUNTS, COUNTS[:, :3], SPACING), r"counts of es \(z, 4, 2\)"),
        (lambda: patient_limits(-COUNTS, COUNTS, SPACING), "counts of ed must be 0 <="),
        (lambda: patient_limits(COUNTS, COUNTS, (1, 1)), "three numbers above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
