"""Labels from k-space: the cases of `kspace_segmentation`, and numbers of lines, one or several."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import robustbench_med as rb
from robustbench_med.cohorts import kspace_cine
from robustbench_med.errors import InputError

SMALL = {"patients": 2, "size": 72, "pixel_mm": 2.2, "slices": 2}


def cohort(task="kspace_segmentation", **settings):
    return rb.build("cohorts", "synthetic_cine", **(SMALL | settings), task=task)


def lines_of(case):
    """Rows that were measured, of every slice; they are measured whole."""
    mask = case.context["mask"]
    assert torch.equal(mask, mask[..., :1].expand_as(mask))
    return mask[0, ..., 0]


@pytest.mark.parametrize("coils", [1, 3])
def test_a_case_is_the_measured_slice_and_its_labels(coils):
    measured, labelled = cohort("reconstruction", coils=coils), cohort("segmentation")
    for case, kspace, labels in zip(
        cohort(coils=coils).cases, measured.cases, labelled.cases, strict=True
    ):
        assert case.case_id == kspace.case_id == labels.case_id
        assert torch.equal(case.image, kspace.image)
        assert torch.equal(case.target, labels.target)
        assert case.context.keys() - kspace.context.keys() == {"full"}
        assert all(torch.equal(case.context[name], kspace.context[name]) for name in kspace.context)


def test_the_full_image_is_of_the_same_measurement_with_every_line():
    for case in cohort().cases:
        image = torch.complex(*case.context["full"]).numpy()
        kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
        measured = torch.complex(*case.image).numpy()
        mask = case.context["mask"][0].numpy()
        np.testing.assert_allclose(mask * kspace, measured, atol=1e-4)
        assert np.abs((1 - mask) * kspace).max() > 0.1


@pytest.mark.parametrize("count", [1, 2, 5, 16, 71, 72])
def test_as_many_lines_are_acquired_as_asked_the_central_ones_first(count):
    for task in ("reconstruction", "kspace_segmentation"):
        for case in cohort(task, patients=1, lines=count, centre_lines=6).cases:
            found = lines_of(case)
            assert found.sum() == count
            centre = min(count, 6)
            first = 36 - centre // 2
            assert found[first : first + centre].all()
    whole = cohort("chain", patients=1, lines=count, slices=None).cases[0]
    assert (lines_of(whole).sum(dim=-1) == count).all()


def test_lines_and_the_same_acceleration_acquire_the_same():
    one, other = cohort(lines=8, centre_lines=4), cohort(acceleration=9, centre_lines=4)
    assert all(torch.equal(a.image, b.image) for a, b in zip(one.cases, other.cases, strict=True))


def test_each_slice_has_its_own_number_and_each_patient_of_a_chain():
    found = cohort(patients=12, lines=[1, 4, 16], slices=3)
    counts = Counter()
    for index in range(len(found)):
        case = found.cases[index]
        counts[case.attributes["lines"]] += 1
        assert lines_of(case).sum() == case.attributes["lines"]
        assert found.summary(index).attributes == case.attributes
    assert counts.keys() == {1, 4, 16}
    assert min(counts.values()) > 12  # of 24 expected each
    chain = cohort("chain", patients=6, lines=[2, 8], slices=None)
    drawn = []
    for case in chain.cases:
        found = lines_of(case).sum(dim=-1)
        assert (found == case.attributes["lines"]).all()
        drawn.append(case.attributes["lines"])
    assert set(drawn) == {2, 8}


def test_a_case_with_a_drawn_number_is_the_one_measured_with_that_number():
    drawn, fixed = cohort(lines=[3, 9]), {n: cohort(lines=n) for n in (3, 9)}
    for index, case in enumerate(drawn.cases):
        same = fixed[case.attributes["lines"]].cases[index]
        assert torch.equal(case.image, same.image)
        assert torch.equal(case.context["mask"], same.context["mask"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lines": 0}, "lines: expected a number from 1 to 72, or several, each once, got 0"),
        ({"lines": 73}, "expected a number from 1 to 72"),
        ({"lines": [4, 4]}, r"each once, got \[4, 4\]"),
        ({"lines": [4, 100]}, "from 1 to 72"),
        ({"lines": []}, "from 1 to 72"),
        ({"lines": 2.5}, "from 1 to 72"),
        ({"lines": "4"}, "from 1 to 72"),
        ({"lines": 4, "acceleration": 8}, "lines and acceleration are given; keep one"),
        ({"lines": 4, "task": "segmentation"}, "lines: the task 'segmentation' does not use it"),
        ({"task": "patient", "slices": None, "lines": 4}, "only reconstruction, chain"),
    ],
)
def test_wrong_numbers_of_lines_are_refused(settings, message):
    with pytest.raises(InputError, match=message) as refused:
        cohort(**settings)
    assert len(str(refused.value).splitlines()) == 1


def test_the_code_of_this_task_is_in_its_digests_and_in_those_of_no_other():
    # Weights of earlier tasks name digests that cover every file cine_*.py.
    assert not Path(kspace_cine.__file__).name.startswith("cine_")
    for settings in ({}, {"lines": [4, 5]}):
        cases = cohort(**settings).cases
        before = cases.summary(0).digest
        cases.view = replace(cases.view, code="changed")
        assert cases.summary(0).digest != before
