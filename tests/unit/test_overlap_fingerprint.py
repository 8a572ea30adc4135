"""Fingerprints and registration against resampled pictures, exact turns and brute force."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, shift

from robustbench_med.cases import Case
from robustbench_med.errors import InputError
from robustbench_med.overlap.fingerprint import Whitening, fingerprint, turned_fingerprints
from robustbench_med.overlap.picture import TURNS, picture_of, plane_of, turned
from robustbench_med.overlap.planting import CHANGES
from robustbench_med.overlap.registration import agreement
from robustbench_med.overlap.shortlist import Base, shortlist


def plane(seed, height=96, width=80):
    """A smooth field with some detail, in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse, fine = (gaussian_filter(rng.normal(size=(height, width)), s) for s in (8, 2))
    field = coarse / coarse.std() + fine / fine.std()
    return (field - field.min()) / np.ptp(field)


def case(image, target=None, **context):
    target = torch.tensor(0) if target is None else target
    return Case("c", "p", torch.as_tensor(image), target, context)


def test_a_plane_is_the_mean_of_channels_and_slices_or_the_middle_slice():
    image = torch.rand(3, 5, 8, 9)
    assert plane_of(case(image)) == pytest.approx(image.mean(dim=(0, 1)).numpy(), abs=1e-6)
    middle = plane_of(case(image), middle=True)
    assert middle == pytest.approx(image[:, 2].mean(dim=0).numpy(), abs=1e-6)
    with pytest.raises(InputError, match=r"must be \(c, ..., h, w\), got \(1, 7\)"):
        plane_of(case(torch.rand(1, 7)))


def test_a_measured_case_is_looked_at_through_its_truth():
    truth = torch.rand(2, 8, 8)
    measured = case(torch.rand(2, 8, 8), truth, mask=torch.ones(1, 8, 8))
    assert plane_of(measured) == pytest.approx(truth.square().sum(dim=0).sqrt().numpy(), abs=1e-6)


def test_what_is_not_finite_counts_as_nothing():
    image = torch.ones(1, 4, 4)
    image[0, 0, 0], image[0, 1, 1] = torch.nan, torch.inf
    assert plane_of(case(image)).sum() == 14


def test_a_picture_is_the_mean_of_equal_areas():
    field = plane(0, 128, 192)
    expected = field.reshape(64, 2, 64, 3).mean(axis=(1, 3))
    assert picture_of(field) == pytest.approx(expected, abs=1e-12)
    assert picture_of(plane(1, 20, 30)).shape == (64, 64)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_picture_has_the_turned_fingerprint(turn):
    picture = picture_of(plane(3, 150, 70))
    expected = fingerprint(turned(picture, turn))
    assert turned_fingerprints(fingerprint(picture)[None])[turn, 0] == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "move"),
    [("as it is", lambda p: p), ("rotated by 180 degrees", lambda p: np.rot90(p, 2)),
     ("rotated by 90 degrees", lambda p: np.rot90(p, -1)),
     ("rotated by 270 degrees", lambda p: np.rot90(p, 1)),
     ("mirrored left to right", np.fliplr), ("mirrored top to bottom", np.flipud),
     ("mirrored on the diagonal", np.transpose)],
)  # fmt: skip
def test_the_turns_are_what_they_are_called(name, move):
    picture = picture_of(plane(4))
    assert np.array_equal(turned(picture, TURNS.index(name)), move(picture))


def test_a_fingerprint_is_the_low_end_of_the_cosine_transform():
    picture = picture_of(plane(5))
    low = dctn(picture, norm="ortho")[:8, :8].reshape(-1)[1:]
    spread = np.linalg.norm(picture - picture.mean())
    assert fingerprint(picture) == pytest.approx(low / spread, abs=1e-6)


def test_gain_and_offset_change_nothing_and_one_value_has_no_fingerprint():
    picture = picture_of(plane(6))
    assert fingerprint(40 * picture - 900) == pytest.approx(fingerprint(picture), abs=1e-6)
    for value in (0.0, 0.3, 1e6):
        assert not fingerprint(np.full((64, 64), value)).any()
        assert agreement(np.full((64, 64), value), picture) == 0
        assert agreement(picture, np.full((64, 64), value)) == 0
    flat = Whitening.of(np.stack([fingerprint(picture_of(plane(i))) for i in range(9)]))
    assert not flat(np.zeros((2, 63), np.float32)).any()


def test_whitened_fingerprints_are_uncorrelated_where_they_vary():
    rng = np.random.default_rng(0)
    prints = (rng.normal(size=(4000, 63)) * np.linspace(3, 1, 63) + 2).astype(np.float32)
    whitening = Whitening.of(prints)
    moved = (prints - whitening.mean) @ whitening.matrix
    spread = np.cov(moved.T)
    assert np.abs(spread - np.diag(np.diag(spread))).max() < 1e-3
    # 1 / (1 + 0.1 * mean variance / variance), the mean of 1 to 9 being about 4.3
    assert 0.6 < np.diag(spread).min() < np.diag(spread).max() < 1
    assert np.linalg.norm(whitening(prints), axis=1) == pytest.approx(1, abs=1e-5)


def test_the_shortlist_is_what_comparing_everything_gives():
    rng = np.random.default_rng(1)
    prints, queries = (rng.normal(size=(n, 63)).astype(np.float32) for n in (5000, 700))
    owners, mine = rng.integers(0, 40, 5000), rng.integers(0, 40, 700)
    base = Base.of(prints, owners, Whitening.of(prints))
    found = shortlist(queries, mine, base)
    turns = base.whitening(turned_fingerprints(queries))
    every = np.einsum("tqd,nd->qnt", turns, base.vectors)
    best = np.where(mine[:, None] == owners[None], -2, every.max(axis=2))
    order = np.argsort(-best, axis=1)[:, :3]
    assert np.array_equal(found.place, order)
    assert found.likeness == pytest.approx(np.take_along_axis(best, order, axis=1), abs=1e-5)
    rows = np.arange(700)[:, None]
    assert np.array_equal(found.turn, every[rows, order].argmax(axis=2))


def test_a_shortlist_of_nothing_and_of_one_patient_only_is_empty_of_matches():
    prints = np.random.default_rng(2).normal(size=(2, 63)).astype(np.float32)
    base = Base.of(prints, np.array([0, 0]), Whitening.of(prints))
    assert shortlist(prints[:0], np.zeros(0, np.int64), base).place.shape == (0, 2)
    assert (shortlist(prints, np.array([0, 0]), base).likeness <= -1).all()


def test_agreement_is_one_for_a_moved_copy_and_small_for_another_picture():
    picture = picture_of(plane(7))
    assert agreement(3 * picture + 1, picture) == pytest.approx(1, abs=1e-9)
    moved = np.roll(picture, (3, -2), axis=(0, 1))
    assert agreement(moved, picture) > 0.99
    assert agreement(shift(picture, (0, 8), mode="nearest"), picture) < 0.5
    others = [agreement(picture_of(plane(seed)), picture) for seed in range(20, 40)]
    assert max(others) < 0.5


def test_agreement_is_the_greatest_correlation_over_the_shifts():
    left, right = (picture_of(plane(seed)) for seed in (8, 9))

    def detail(picture):
        scaled = (picture - picture.mean()) / picture.std()
        fine = scaled - gaussian_filter(scaled, 2.0)
        return np.clip(fine, -np.abs(fine).mean(), np.abs(fine).mean())

    inner = detail(left)[4:-4, 4:-4].reshape(-1)
    fixed = detail(right)
    at_shifts = [
        np.corrcoef(inner, fixed[i : i + 56, j : j + 56].reshape(-1))[0, 1]
        for i in range(9) for j in range(9)
    ]  # fmt: skip
    found = agreement(left, right)
    assert found >= max(at_shifts) - 1e-9
    assert found < max(at_shifts) + 0.2


def test_a_letter_drawn_on_both_pictures_does_not_make_them_copies():
    left, right = (picture_of(plane(seed)) for seed in (10, 11))
    before = agreement(left, right)
    for picture in (left, right):
        picture[4:8, 4:20] = 5.0
    assert agreement(left, right) < before + 0.25


@pytest.mark.parametrize("name", CHANGES)
def test_every_planted_change_keeps_the_plane_and_is_still_recognised(name):
    field = plane(12, 128, 128)
    copy = CHANGES[name](field)
    assert copy.shape == field.shape
    assert np.isfinite(copy).all()
    assert (name == "unchanged") == np.array_equal(copy, field)
    seen, own = picture_of(copy), picture_of(field)
    assert max(agreement(turned(seen, turn), own) for turn in range(8)) > 0.8


@pytest.mark.parametrize("length", [1, 9, 64, 96, 131])
def test_resampling_weighs_every_place_of_a_plane_alike(length):
    constant = picture_of(np.full((length, 70), 3.0))
    assert constant == pytest.approx(3.0)
    plane_ = np.random.default_rng(length).normal(size=(length, 70))
    assert picture_of(plane_[::-1]) == pytest.approx(picture_of(plane_)[::-1], abs=1e-12)
    if length >= 64:
        assert picture_of(plane_).mean() == pytest.approx(plane_.mean(), abs=1e-12)
