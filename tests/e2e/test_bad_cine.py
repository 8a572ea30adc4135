"""Simulated cohorts that cannot be: one line each, from Python and from every command."""

import pytest

import robustbench_med as rb
from robustbench_med.cli import main

PLAN = """
name = "cine"

[cohort]
use = "synthetic_cine"
{settings}

[model]
use = "study_model:load"

[[metrics]]
use = "nmse"
"""
BAD = {
    "no patients": ("patients = 0", "synthetic_cine: patients: expected at least 1, got 0"),
    "no patients of the split": (
        "patients = { train = 4 }", "synthetic_cine: patients: no number for the split 'test'",
    ),
    "an unknown vendor": ('vendors = ["A", "E"]', "vendor: no 'E'; known: A, B, C, D"),
    "no vendor": ("vendors = []", "vendors, fields and classes: expected at least one of each"),
    "an unknown field": (
        "fields = [7]", "fields: expected some of (0.55, 1.5, 3.0) tesla, got [7]",
    ),
    "a field that is no list": ("fields = 1.5", "fields: expected a list, got 1.5"),
    "an unknown class": (
        'population = "acdc"\nclasses = ["NOR", "ARV"]',
        "classes: expected some of NOR, MINF, DCM, HCM, RV, got ['ARV']",
    ),
    "classes of the healthy": (
        'classes = ["NOR"]', "classes: are those of population 'acdc', got 'normal'",
    ),
    "an unknown population": (
        'population = "accd"', "population: expected one of normal, acdc, got 'accd'",
    ),
    "an unknown split": (
        'split = "tset"', "split: expected one of train, validation, test, got 'tset'",
    ),
    "an unknown task": (
        'task = "segmentaton"',
        "synthetic_cine: no task 'segmentaton'; did you mean 'segmentation'?",
    ),
    "diagnoses of the healthy": (
        'task = "classification"\npopulation = "normal"',
        "synthetic_cine: classification needs population 'acdc', got 'normal'",
    ),
    "a setting of another task": (
        "coils = 4",
        ("synthetic_cine: coils: the task 'segmentation' does not use it, only reconstruction, "
         "chain, kspace_segmentation and dynamic"),
    ),
    "a strip of another task": (
        "strip = 24",
        "synthetic_cine: strip: the task 'segmentation' does not use it, only dynamic",
    ),
    "strips that leave columns over": (
        'task = "dynamic"\nstrip = 36',
        "synthetic_cine: strip: expected a divisor of the 96 columns, got 36",
    ),
    "an acceleration that leaves no line": (
        'task = "reconstruction"\nacceleration = 200',
        "synthetic_cine: acceleration: expected 1 to 12 of 96 lines with centre_lines = 8, got 200",
    ),
    "an acceleration that is a text": (
        'task = "reconstruction"\nacceleration = "4"',
        "synthetic_cine: acceleration: expected a number, at least 0, got '4'",
    ),
    "more centre lines than lines": (
        'task = "reconstruction"\ncentre_lines = 97\nacceleration = 1',
        "mask: 97 centre lines, but there are only 96 lines",
    ),
    "more centre lines than the acceleration allows": (
        'task = "reconstruction"\nacceleration = 20',
        "synthetic_cine: acceleration: expected 1 to 12 of 96 lines with centre_lines = 8, got 20",
    ),
    "an image smaller than the heart": (
        "size = 64",
        ("image of 64 x 64 pixels of 2 mm: 128 mm is smaller than the heart, which needs 140 mm; "
         "raise size or pixel_mm"),
    ),
    "a size that is no size": (
        "size = [96, 96, 96]",
        "synthetic_cine: size: expected rows and columns, got [96, 96, 96]",
    ),
    "a size of half a pixel": (
        "size = 96.5", "synthetic_cine: size: expected rows and columns, got 96.5",
    ),
    "a pixel of no size": (
        "pixel_mm = 0", "synthetic_cine: pixel_mm: expected a number above 0, got 0",
    ),
    "an odd size of fine stacks": (
        'task = "super_resolution"\nsize = 97',
        "super_resolution: size must be even, got Grid(height=97, width=97, pixel_mm=2.0)",
    ),
    "no coil": (
        'task = "reconstruction"\ncoils = 0',
        "synthetic_cine: coils: expected a whole number, at least 1, got 0",
    ),
    "one frame": (
        "frames = 1", "synthetic_cine: frames: expected a whole number, at least 2, got 1",
    ),
    "an unknown convention": (
        'papillary = "wall"', "synthetic_cine: papillary: expected cavity or mass, got 'wall'",
    ),
    "an unknown sex": (
        "sexes = { F = 0.5, W = 0.5 }", "synthetic_cine: sexes: no 'W'; known: F, M",
    ),
    "shares of more than all": (
        "sexes = { F = 0.5, M = 0.6 }",
        "synthetic_cine: sexes: shares must sum to 1, got {'F': 0.5, 'M': 0.6}",
    ),
    "a share of percent": (
        "sexes = { F = 5, M = 95 }",
        "synthetic_cine: sexes: F: expected a share from 0 to 1, got 5",
    ),
    "a sex that is no share": (
        'sexes = "F"', "synthetic_cine: sexes: expected shares or a list, got 'F'",
    ),
    "no sex": ("sexes = []", "synthetic_cine: sexes: expected shares or a list, got {}"),
    "an unknown ancestry": (
        'ancestries = ["group 1", "group 4"]',
        "synthetic_cine: ancestries: no 'group 4'; did you mean 'group 3'?",
    ),
    "no shares of the split": (
        'sexes = { train = ["F"] }', "synthetic_cine: sexes: nothing for the split 'test'",
    ),
    "no vendors of the split": (
        'vendors = { train = ["A"], validation = ["A"] }',
        "synthetic_cine: vendors: nothing for the split 'test'",
    ),
    "vendors of a split that is none": (
        'vendors = { train = ["A"], tset = ["B"] }',
        "synthetic_cine: vendors: no split 'tset'; did you mean 'test'?",
    ),
    "shares of vendors": (
        "vendors = { A = 0.5, B = 0.5 }", "vendors: expected a list, got {'A': 0.5, 'B': 0.5}",
    ),
    "a vendor of the split that is unknown": (
        'vendors = { train = ["A"], test = ["E"] }', "vendor: no 'E'; known: A, B, C, D",
    ),
    "a misspelt setting": (
        "pixel = 2", "cohorts: synthetic_cine has no setting 'pixel'; did you mean 'pixel_mm'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_cohort_that_cannot_be_is_refused_in_one_line(study, mistake):
    settings, line = BAD[mistake]
    study.plan.write_text(PLAN.format(settings=settings), encoding="utf-8")
    (said,) = study.refused(2, "check", study.plan)
    assert said.startswith("rbmed: ")
    assert said.endswith(line)
    assert study.refused_run() == [said]
    assert not (study.folder / "run").exists()


def test_several_mistakes_are_told_at_once():
    with pytest.raises(rb.errors.InputError) as refusal:
        rb.build("cohorts", "synthetic_cine", frames=1, coils=0, seed="x")
    assert str(refusal.value).splitlines() == [
        "synthetic_cine: frames: expected a whole number, at least 2, got 1",
        "synthetic_cine: coils: expected a whole number, at least 1, got 0",
        "synthetic_cine: seed: expected a whole number, at least 0, got 'x'",
    ]
    with pytest.raises(rb.errors.InputError, match="memory_mb: expected a number, at least 0"):
        rb.build("cohorts", "synthetic_cine", memory_mb=-1)


KSPACE = """
name = "kspace"

[cohort]
use = "synthetic_cine"
task = "reconstruction"
patients = 2
size = 72
slices = 1

[model]
use = "zero_filled"

[[metrics]]
use = "nmse"

[[attack]]
use = "pgd"
steps = 2
ball = { norm = "l2", eps = 0.02, unit = "fraction", support = "acquired" }
"""


def test_a_support_that_the_cases_lack_is_told_before_anything_is_computed(tmp_path, capsys):
    plan = tmp_path / "plan.toml"
    plan.write_text(KSPACE, encoding="utf-8")
    assert main(["check", str(plan)]) == 2
    line = capsys.readouterr().err.strip()
    assert line == (
        "rbmed: pgd: ball: needs acquired in the cases' context, which has mask, noise, spacing"
    )
    plan.write_text(KSPACE.replace('"acquired"', '"mask"'), encoding="utf-8")
    assert main(["check", str(plan)]) == 0
