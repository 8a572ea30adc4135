"""Drawn people and hearts against published ranges, the rules of diagnosis, their own voxels."""

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from robustbench_med.clinical import diagnose, measure
from robustbench_med.cohorts.cine_frame import slab, slices_of, spacing_of
from robustbench_med.errors import InputError
from robustbench_med.physics.acdc import CLASSES, draw_class
from robustbench_med.physics.measuring import measure_heart
from robustbench_med.physics.normal import CORRELATED, draw_healthy
from robustbench_med.physics.patient import ANCESTRIES, EXTRA_FAT_MM, draw_torso, seed_of, stream
from robustbench_med.physics.population import Population, draw_patient
from robustbench_med.physics.rendering import TISSUES, Grid, labels, render

# Petersen et al., JCMR 19:18 (2017): mean and standard deviation, papillary muscles in the cavity.
PETERSEN = {
    "M": {"lvedv": (166, 32), "lvesv": (69, 16), "lvef": (58, 5), "lvm": (103, 21),
          "rvedv": (182, 36), "rvesv": (85, 22), "rvef": (54, 6)},
    "F": {"lvedv": (124, 21), "lvesv": (49, 11), "lvef": (61, 5), "lvm": (70, 13),
          "rvedv": (130, 24), "rvesv": (55, 15), "rvef": (58, 6)},
}  # fmt: skip
GRID = Grid(96, 96, 2.0)
VOLUMES = ("lvedv", "lvesv", "lvm", "rvedv", "rvesv")
FEW, MANY = 400, 4000
by_sex = pytest.mark.parametrize("sex", ["F", "M"])


@cache
def drawn(sex, count):
    """Measures and persons of `count` healthy people, by name, as arrays."""
    rng = stream("population", sex)
    people = [draw_healthy(rng, sex) for _ in range(count)]
    rows = [asdict(measure_heart(h)) | asdict(p) for p, h in people]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@by_sex
def test_a_few_hundred_healthy_hearts_have_the_published_means_and_spreads(sex):
    values = drawn(sex, FEW)
    for name, (mean, sd) in PETERSEN[sex].items():
        # Four standard errors; and 2 % for published numbers that do not fit each other exactly:
        # volumes and ejection fractions are drawn, end-systolic volumes follow.
        assert values[name].mean() == pytest.approx(mean, abs=4 * sd / FEW**0.5 + 0.02 * mean)
        assert values[name].std(ddof=1) == pytest.approx(sd, rel=4 / (2 * FEW) ** 0.5 + 0.02)


@pytest.mark.slow
@by_sex
def test_thousands_of_healthy_hearts_have_the_published_means_and_spreads(sex):
    values = drawn(sex, MANY)
    for name in ("lvedv", "lvesv", "lvef", "lvm"):
        mean, sd = PETERSEN[sex][name]
        near = {"abs": 1.0} if name == "lvef" else {"rel": 0.02}
        assert values[name].mean() == pytest.approx(mean, **near), name
        assert values[name].std(ddof=1) == pytest.approx(sd, rel=0.1), name


def test_healthy_people_are_of_the_stated_ages_sexes_and_correlations():
    both = [drawn(sex, FEW) for sex in "FM"]
    drawn_names = {"height": "height_cm", "weight": "weight_kg", "age": "age_years"}
    for pair, expected in CORRELATED.items():
        names = [drawn_names.get(name, name) for name in pair]
        found = np.mean([np.corrcoef(*(values[name] for name in names))[0, 1] for values in both])
        assert found == pytest.approx(expected, abs=4 * (1 - expected**2) / (2 * FEW) ** 0.5)
    ages = np.concatenate([values["age_years"] for values in both])
    assert (ages.min(), ages.max()) == (45, 74)
    assert stats.kstest(ages + 0.5, stats.uniform(45, 30).cdf).pvalue > 1e-3


@cache
def everybody(count=600):
    return [draw_patient(Population(), number) for number in range(count)]


def test_sexes_ancestries_vendors_and_fields_come_in_the_stated_shares():
    for share, name, of in (
        (1 / 2, "F", lambda p: p.person.sex),
        *((1 / 3, group, lambda p: p.person.ancestry) for group in ANCESTRIES),
        *((1 / 4, vendor, lambda p: p.vendor) for vendor in "ABCD"),
        (0.1, 0.55, lambda p: p.field_t), (0.6, 1.5, lambda p: p.field_t),
        (0.3, 3.0, lambda p: p.field_t),
    ):  # fmt: skip
        count = sum(of(patient) == name for patient in everybody())
        assert stats.binomtest(count, len(everybody()), share).pvalue > 1e-3, name


def test_ancestry_changes_the_subcutaneous_fat_and_nothing_else():
    patient = everybody()[7]
    torsos, images = [], []
    for group in ANCESTRIES:
        person = replace(patient.person, ancestry=group)
        torso = draw_torso(person, patient.heart, stream("torso"))
        other = replace(patient, person=person, torso=torso)
        torsos.append(torso)
        images.append(render(other, 0.0, slab(other, 3), GRID))
        assert measure_heart(other.heart) == measure_heart(patient.heart)
    first, *others = torsos
    for torso, group in zip(others, ANCESTRIES[1:], strict=True):
        assert torso.fat_mm - first.fat_mm == pytest.approx(EXTRA_FAT_MM[group])
        assert replace(torso, fat_mm=first.fat_mm) == first
    (tissue, truth), *others = images
    for shares, regions in others:
        assert (regions == truth).all()
        assert (shares != tissue).any()
        changed = {TISSUES[i] for i in range(len(TISSUES)) if (shares[i] != tissue[i]).any()}
        assert changed <= {"fat", "muscle"}


def test_ancestry_groups_differ_in_fat_and_in_nothing_else():
    facts = {
        "fat": lambda p: p.torso.fat_mm, "age": lambda p: p.person.age_years,
        "height": lambda p: p.person.height_cm, "weight": lambda p: p.person.weight_kg,
        "width": lambda p: p.torso.width_mm, "depth": lambda p: p.torso.depth_mm,
        "field": lambda p: p.field_t, "rotation": lambda p: p.rotation_rad,
        **{name: lambda p, name=name: getattr(measure_heart(p.heart), name)
           for name in ("lvedv", "lvef", "lvm", "rvedv", "rvef")},
    }  # fmt: skip
    for name, fact in facts.items():
        groups = [[fact(p) for p in everybody() if p.person.ancestry == g] for g in ANCESTRIES]
        chance = stats.kruskal(*groups).pvalue
        assert chance < 1e-9 if name == "fat" else chance > 1e-3, name


def test_a_patient_depends_on_population_split_seed_and_number_alone():
    later = [draw_patient(Population("acdc", "train", 5), number) for number in (9, 3, 6)]
    again = [draw_patient(Population("acdc", "train", 5), number) for number in (6, 9, 3)]
    assert [later[i] for i in (2, 0, 1)] == again
    one = draw_patient(Population(), 4)
    for other in (Population(seed=1), Population(split="train"), Population("acdc")):
        found = draw_patient(other, 4)
        assert found.heart != one.heart
        assert found.seed != one.seed
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)


@pytest.mark.parametrize("diagnosis", CLASSES)
def test_a_drawn_class_is_the_class_of_the_rules_with_a_margin(diagnosis):
    for number in range(5):
        person, heart = draw_class(diagnosis, stream(diagnosis, number))
        for margin in (0.0, 0.05):
            male = person.sex == "M"
            found = diagnose(measure_heart(heart), bsa=person.bsa, male=male, margin=margin)
            assert found == diagnosis


@cache
def voxelised(number):
    """An ACDC patient, the measures of their labelled voxels, and the true ones."""
    patient = draw_patient(Population("acdc", "test", 11), number)
    masks = [
        [labels(render(patient, moment, slab(patient, z), GRID)[1]).numpy()
         for z in range(slices_of(patient))]
        for moment in (0.0, 1.0)
    ]  # fmt: skip
    measured = measure(np.array(masks), spacing_of(patient, GRID).numpy())
    return patient, measured, measure_heart(patient.heart)


def agreement(count):
    """Share of patients whose voxels say their class; relative errors of volumes, by name."""
    same, errors = 0, {name: [] for name in VOLUMES}
    for number in range(count):
        patient, measured, true = voxelised(number)
        assert patient.diagnosis == CLASSES[number % 5]
        person = patient.person
        found = diagnose(measured, bsa=person.bsa, male=person.sex == "M")
        same += found == patient.diagnosis
        for name, of in errors.items():
            of.append(getattr(measured, name) / getattr(true, name) - 1)
    return same / count, {name: np.array(of) for name, of in errors.items()}


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_voxels_say_the_drawn_class_and_the_true_volumes(count):
    same, errors = agreement(count)
    assert same >= 0.98
    for name, error in errors.items():
        assert abs(error.mean()) < 0.02, name
    assert np.abs(np.stack([errors["lvedv"], errors["lvesv"]])).max() < 0.02


def test_voxels_say_the_true_walls_and_motion():
    found = [voxelised(number)[1:] for number in range(25)]
    difference = {name: np.array([getattr(m, name) - getattr(t, name) for m, t in found])
                  for name in ("wall_mm", "motion_range", "lvef")}  # fmt: skip
    assert abs(difference["wall_mm"].mean()) < 0.5
    assert np.abs(difference["wall_mm"]).max() < 1.5
    assert np.abs(difference["motion_range"]).max() < 0.04
    assert np.abs(difference["lvef"]).max() < 1.5


def test_mistakes_in_a_population_are_told_at_once_and_in_one_line_each():
    with pytest.raises(InputError) as refusal:
        Population("norml", "tset", 0, ("A", "E"), (1.5, 7.0))
    assert str(refusal.value).splitlines() == [
        "population: expected one of normal, acdc, got 'norml'",
        "split: expected one of train, validation, test, got 'tset'",
        "vendor: no 'E'; known: A, B, C, D",
        "fields: expected some of (0.55, 1.5, 3.0) tesla, got [7.0]",
    ]
    with pytest.raises(InputError, match="vendors, fields and classes: expected at least one"):
        Population(vendors=())
    with pytest.raises(InputError, match=r"fields: expected a list, got 1\.5"):
        Population(fields=1.5)
    with pytest.raises(InputError, match="class: expected one of NOR, MINF, DCM, HCM, RV, got 'X'"):
        draw_class("X", stream("x"))


def test_a_population_of_one_vendor_and_field_has_no_other():
    only = Population(vendors=["C"], fields=[3.0])
    patients = [draw_patient(only, number) for number in range(5)]
    assert {(patient.vendor, patient.field_t) for patient in patients} == {("C", 3.0)}
