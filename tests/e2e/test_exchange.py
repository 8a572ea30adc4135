"""Attacks by file in a run: another tool's examples count, and other files are computed anew."""

import csv

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

EPS = 0.02
ATTACK = 'use = "pgd"\nsteps = 5\nstep_size = 0.5\nball = { norm = "linf", eps = [0.02, 0.05] }'
BALL = 'ball = { norm = "linf", eps = 0.02 }'
DRAWS = f'use = "random_search"\nqueries = 3\n{BALL}'
GIVEN = f'use = "given"\nfolder = "examples"\n{BALL}'


def cases(study):
    """Id, image in [0, 1] and truth of each case."""
    with (study.folder / "data" / "cases.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            pixels = np.asarray(Image.open(study.folder / "data" / row["image"]), np.float32) / 255
            yield row["case_id"], pixels[None], int(row["bright"])


def write(study, case_id, image):
    """What a tool without this package does: ids here need no escape."""
    folder = study.folder / "examples"
    folder.mkdir(exist_ok=True)
    path = folder / f"{case_id}.safetensors"
    save_file({"image": np.ascontiguousarray(image, np.float32)}, path, {"case": case_id})


def write_all(study):
    """The model judges by the mean, so the worst image moves every pixel towards one half."""
    for case_id, image, bright in cases(study):
        write(study, case_id, np.clip(image - EPS if bright else image + EPS, 0, 1))


def correct(study, probe):
    """Whether each case was answered right under a probe, and the accuracy of the estimates."""
    run = study.opened()
    records = run.records.query("probe == @probe and metric == 'correct'")
    estimates = run.estimates.query("probe == @probe and metric == 'correct' and group == 'all'")
    return dict(zip(records["case_id"], records["value"], strict=True)), estimates["value"].item()


def test_examples_of_another_tool_count_in_the_worst_case_and_others_are_computed_anew(study):
    write_all(study)
    study.edit(ATTACK, f"{DRAWS}\n\n[[attack]]\n{GIVEN}")
    assert study.run()[0] == 0
    expected = {
        case_id: float((image.mean() - EPS > 0.5) if bright else (image.mean() + EPS < 0.5))
        for case_id, image, bright in cases(study)
    }
    given, _ = correct(study, "given[linf<=0.02]")
    draws, _ = correct(study, "random_search[linf<=0.02]")
    assert given == expected
    assert sum(given.values()) < sum(draws.values())
    assert correct(study, "worst[linf<=0.02]")[1] == pytest.approx(np.mean([*given.values()]))

    broken = next(case_id for case_id, value in given.items() if value == 0)
    write(study, broken, next(image for case_id, image, _ in cases(study) if case_id == broken))
    study.run()
    assert correct(study, "given[linf<=0.02]")[0] == {**given, broken: 1.0}


def test_what_one_run_keeps_another_is_given(study):
    study.edit(ATTACK, f'use = "keep"\nfolder = "examples"\ninner = {{ use = "fgsm" }}\n{BALL}')
    study.run()
    kept, _ = correct(study, "keep[linf<=0.02]")
    assert len([*(study.folder / "examples" / "linf-0.02").iterdir()]) == len(kept)
    study.edit(f'use = "keep"\nfolder = "examples"\ninner = {{ use = "fgsm" }}\n{BALL}', GIVEN)
    study.run()
    assert correct(study, "given[linf<=0.02]")[0] == kept
    assert 0 < sum(kept.values()) < len(kept)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda study: write(study, "case7", np.zeros((1, 8, 9))), "expected floating point"),
        (lambda study: write(study, "case7", np.full((1, 8, 8), 1.5)), "expected values in [0, 1]"),
        (lambda study: (study.folder / "examples" / "case7.safetensors").write_bytes(b"no"),
         "cannot be read as safetensors"),
        (lambda study: (study.folder / "examples" / "case7.safetensors").rename(
            study.folder / "examples" / "case8.safetensors"), "is of case 'case7'"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_ends_the_run_with_one_line(study, spoil, complaint):
    write_all(study)
    spoil(study)
    study.edit(ATTACK, GIVEN)
    (line,) = study.refused_run()
    assert "examples/case" in line
    assert complaint in line
