"""Leaks that were planted are found, by kind and turn; strangers are not; few tell nothing."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_med.cases import Cohort
from robustbench_med.overlap.calibration import spread
from robustbench_med.overlap.chance import limit
from robustbench_med.overlap.leaks import ALWAYS, _suspicious, find_leaks, search
from robustbench_med.overlap.planting import CHANGES
from robustbench_med.overlap.seen import look
from robustbench_med.overlap.shortlist import Shortlist

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("overlap_fixture.py"))))
TASK, case, field, split, with_cases = (
    MADE.TASK, MADE.case, MADE.field, MADE.split, MADE.with_cases,
)  # fmt: skip


def changed(image, name):
    plane = CHANGES[name](image[0].double().numpy())
    return torch.from_numpy(np.ascontiguousarray(plane))[None].float()


@pytest.fixture(scope="module")
def found():
    train = split("train", 40, per_patient=2)
    known = {c.case_id: c.image for c in train.cases}
    test = with_cases(
        split("test", 12, first=500),
        case("same-patient", "train3", field(77)),
        case("same-pixels", "t-a", known["train5-1"].clone()),
        case("rotated", "t-b", changed(known["train7-0"], "rotated by 90 degrees")),
        case("jpeg", "t-c", changed(known["train8-1"], "JPEG at quality 50")),
        case("cropped", "t-d", changed(known["train9-0"], "2% cropped from every edge")),
        case("twin-1", "t-e", field(901)),
        case("twin-2", "t-f", changed(field(901), "mirrored")),
        case("own-copy", "t-f", changed(field(901), "resized to 80% and back")),
        case("blank-1", "t-g", torch.zeros(1, 64, 64)),
    )
    train = with_cases(train, case("blank", "train99", torch.zeros(1, 64, 64)))
    told = []
    result = search(look(test), look(train), on_progress=lambda *args: told.append(args))
    return result, told


def test_every_planted_leak_is_found_once_and_no_stranger_is(found):
    leaks = {(leak.kind, leak.test, leak.train) for leak in found[0].leaks}
    assert leaks == {
        ("patient", "same-patient", "train3-0"),
        ("identical", "same-pixels", "train5-1"),
        ("near", "rotated", "train7-0"),
        ("near", "jpeg", "train8-1"),
        ("near", "cropped", "train9-0"),
    }
    assert len(found[0].leaks) == 5


def test_a_leak_says_how_the_image_lies_and_how_alike_it_is(found):
    by_case = {leak.test: leak for leak in found[0].leaks}
    assert by_case["rotated"].turned == "rotated by 90 degrees"
    assert by_case["jpeg"].turned == by_case["same-pixels"].turned == "as it is"
    assert by_case["same-pixels"].likeness == 1
    assert by_case["rotated"].likeness == pytest.approx(1, abs=1e-6)
    assert found[0].calibration.limit < by_case["cropped"].likeness < 1


def test_copies_inside_the_test_split_count_once_and_only_between_patients(found):
    pairs = {frozenset((leak.test, leak.train)) for leak in found[0].within}
    assert frozenset(("twin-1", "twin-2")) in pairs
    assert frozenset(("twin-2", "own-copy")) not in pairs
    assert pairs <= {frozenset(("twin-1", "twin-2")), frozenset(("twin-1", "own-copy"))}


def test_the_audit_measures_how_many_planted_copies_it_finds(found):
    calibration = found[0].calibration
    assert set(calibration.planted) == set(CHANGES)
    assert all(planted == 20 for _, planted in calibration.planted.values())
    assert sum(flagged for flagged, _ in calibration.planted.values()) >= 0.95 * 20 * len(CHANGES)
    assert calibration.typical < calibration.limit < 1
    assert calibration.unrelated == 80
    assert found[0].compared > 0


def test_progress_is_told_to_the_end(found):
    ends = {what: (done, total) for what, done, total in found[1]}
    assert set(ends) == {"planting copies", "comparing details"}
    assert all(done == total for done, total in ends.values())


def test_two_splits_without_a_common_patient_or_image_have_no_leak():
    test, train = split("test", 30, first=100), split("train", 40)
    assert find_leaks(test, train) == ()


def test_with_few_training_patients_copies_are_not_looked_for_and_that_is_said():
    train = split("train", 19)
    image = train.cases[4].image
    test = Cohort("test", TASK, (-20, 20), [
        case("same", "t-a", image.clone()), case("turned", "t-b", changed(image, "mirrored")),
    ])  # fmt: skip
    result = search(look(test), look(train))
    assert [leak.test for leak in result.leaks] == ["same"]
    assert "the training split has 19 patients" in result.calibration.reason
    assert math.isnan(result.calibration.limit)


def test_identical_images_are_found_under_any_other_patient_and_blank_ones_never():
    train = Cohort("train", TASK, (-20, 20), [
        case("a", "p1", field(1)), case("b", "p2", field(1)), case("c", "p3", torch.ones(1, 8, 8)),
    ])  # fmt: skip
    test = Cohort("test", TASK, (-20, 20), [
        case("x", "p1", field(1)), case("y", "p9", torch.ones(1, 8, 8)),
    ])  # fmt: skip
    leaks = {(leak.kind, leak.test, leak.train) for leak in find_leaks(test, train)}
    assert leaks == {("patient", "x", "a"), ("identical", "x", "b")}


def test_what_is_as_alike_as_a_copy_is_always_compared_and_else_the_most_alike():
    rng = np.random.default_rng(0)
    likeness = np.sort(rng.uniform(0, 1, (5000, 3)))[:, ::-1].astype(np.float32)
    found = Shortlist(np.zeros((5000, 3), np.int64), likeness, np.zeros((5000, 3), np.int64))
    all_above = _suspicious(found, gate=0.2)
    assert set(all_above) == set(np.flatnonzero(likeness[:, 0] >= 0.2))
    few = _suspicious(found, gate=2.0)
    assert len(few) == ALWAYS
    assert likeness[few, 0].min() >= np.delete(likeness[:, 0], few).max()


def test_images_are_drawn_one_per_patient_in_turn():
    owners = np.array([0] * 50 + [1] * 3 + [2])
    order = spread(owners, np.random.default_rng(0))
    assert sorted(order) == list(range(54))
    assert sorted(owners[order[:3]]) == [0, 1, 2]
    assert sorted(owners[order[3:5]]) == [0, 1]


def test_the_limit_keeps_its_false_alarms_at_one_in_twenty_audits():
    rng = np.random.default_rng(5)
    looks, alarms = 200, 0
    for _ in range(30):
        found = limit(np.tanh(rng.gumbel(0.25, 0.06, 150)), np.arange(150), looks, rng)
        alarms += int((np.tanh(rng.gumbel(0.25, 0.06, (20, looks))) >= found).sum())
    assert alarms / (30 * 20) <= 0.05


def test_copies_inside_the_training_split_are_told_and_do_not_raise_the_limit():
    clean = split("train", 40)
    doubles = [
        case(f"double{i}", f"double{i}", changed(clean.cases[i].image, "mirrored"))
        for i in range(12)
    ]
    calibration = search(look(split("test", 3, first=100)), look(with_cases(clean, *doubles)))
    before = search(look(split("test", 3, first=100)), look(clean)).calibration
    after = calibration.calibration
    assert (after.doubled, after.unrelated) == (24, 28)
    assert (before.doubled, before.unrelated) == (0, 40)
    assert after.limit < 0.9
    assert sum(found for found, _ in after.planted.values()) > 0.95 * 20 * len(CHANGES)


def test_a_frame_that_all_tested_images_share_does_not_make_them_copies():
    def framed(cohort):
        for one in cohort.cases:
            one.image[:, ::6, :], one.image[:, :, ::9] = 6.0, 6.0
        return cohort

    result = search(look(framed(split("test", 40, first=100))), look(split("train", 40)))
    assert result.leaks == ()
    assert result.within == ()


def test_where_most_training_images_are_copies_nothing_is_taken_for_chance():
    images = [field(seed) for seed in range(20)]
    cases = [case(f"{i}{copy}", f"{i}{copy}", image.clone()) for i, image in enumerate(images)
             for copy in "ab"]  # fmt: skip
    train = Cohort("train", TASK, (-20, 20), cases)
    result = search(look(split("test", 3, first=100)), look(train))
    assert result.calibration.reason.startswith("most training images have a copy")
    assert result.leaks == ()


def test_the_limit_rises_with_the_number_of_looks_and_falls_with_more_patients():
    z = np.random.default_rng(6).gumbel(0.25, 0.06, 200)
    owners = np.arange(200)
    few, many = (limit(np.tanh(z), owners, n, np.random.default_rng(0)) for n in (100, 100_000))
    assert few < many < 1
    fifty = np.tanh(np.tile(z[:50], 4))
    apart, clustered = (limit(fifty, whose, 100, np.random.default_rng(0))
                        for whose in (owners, owners % 50))  # fmt: skip
    assert apart < clustered < 1
