"""Copies planted among real images, changed as files would be, and strangers left alone."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_med.cases import Case, Cohort
from robustbench_med.cohorts.folder import load_folder
from robustbench_med.cohorts.grid import Grid
from robustbench_med.overlap.leaks import search
from robustbench_med.overlap.seen import look

DATA = Path(os.environ.get("RBMED_DATA", Path(__file__).parents[3] / "shared" / "data"))
SIZE = (128, 128)
PLANTED = 20
COLUMNS = {"case": "case_id", "patient": "patient_id", "image": "image"}
SETS = {
    "derm": {"task": "classification", "columns": {**COLUMNS, "target": "malignant"},
             "labels": {"benign": 0, "malignant": 1}, "colour": "rgb"},
    "cxr": {"task": "classification", "columns": {**COLUMNS, "target": "covid19"},
            "labels": {"negative": 0, "positive": 1}, "where": {"covid19": [0, 1]}},
    "cmr": {"task": "segmentation", "columns": {**COLUMNS, "target": "label"}, "labels": "acdc",
            "volume": "slices"},
}  # fmt: skip


def cohort(name, split, size=None, seed=0):
    if not (DATA / name / "cases.csv").is_file():
        pytest.skip(f"no {name} images: set RBMED_DATA to the folder that holds them")
    shares = {"train": 0.6, "test": 0.4, "seed": seed}
    return load_folder(folder=str(DATA / name), splits=shares, split=split, size=size, **SETS[name])


def pil(pixels):
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def by_plane(change):
    """Change the colour image, or each plane where there are no three channels."""

    def changed(image):
        if image.shape[0] == 3:
            return change(pil(image.transpose(1, 2, 0))).transpose(2, 0, 1)
        return np.stack([change(pil(plane)) for plane in image])

    return changed


def as_jpeg(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file)) / 255


def there_and_back(picture):
    small = [round(0.8 * length) for length in picture.size]
    smaller = picture.resize(small, Image.Resampling.LANCZOS)
    return np.asarray(smaller.resize(picture.size, Image.Resampling.BICUBIC)) / 255


def cropped(image):
    rows, columns = (round(0.02 * length) for length in image.shape[1:])
    return image[:, rows:-rows, columns:-columns]


def eight_bit(image):
    return np.clip(np.rint(image * 255), 0, 255) / 255


CHANGES = {
    "unchanged": lambda image: image,
    "rotated by 90": lambda image: np.rot90(image, 1, (1, 2)),
    "rotated by 180": lambda image: np.rot90(image, 2, (1, 2)),
    "rotated by 270": lambda image: np.rot90(image, 3, (1, 2)),
    "mirrored": lambda image: image[:, :, ::-1],
    "JPEG 50": by_plane(as_jpeg),
    "80% and back": by_plane(there_and_back),
    "10% brighter": lambda image: eight_bit(1.1 * image),
    "10% darker": lambda image: eight_bit(0.9 * image),
    "2% cropped": cropped,
}


def planted(name, seed):
    """Changed copies of training images on the model's grid, under new ids."""
    native = cohort(name, "train", seed=seed)
    grid = Grid(SIZE, "resize")
    for index in np.random.default_rng(seed).choice(len(native), PLANTED, replace=False):
        case = native.cases[int(index)]
        for change, apply in CHANGES.items():
            image = np.ascontiguousarray(apply(case.image.numpy().astype(np.float64)))
            on_grid = grid.image(torch.from_numpy(image).float())
            is_mask = case.target.ndim > 0
            target = torch.zeros(SIZE, dtype=torch.int64) if is_mask else case.target
            yield Case(f"{case.case_id}~{change}", f"new {case.patient_id}", on_grid, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_planted_copies_are_found_among_real_images_and_strangers_are_not_flagged(name):
    test, train = (cohort(name, split, SIZE) for split in ("test", "train"))
    everyone = Cohort(test.name, test.task, test.bounds, [*test.cases, *planted(name, 0)])
    result = search(look(everyone), look(train))
    hits = dict.fromkeys(CHANGES, 0)
    for leak in result.leaks:
        original, _, change = leak.test.partition("~")
        assert change, f"{leak} is a false alarm"
        assert leak.train == original
        hits[change] += 1
    assert hits == dict.fromkeys(CHANGES, PLANTED)
    inside = {frozenset((leak.test, leak.train)) for leak in result.within}
    assert all(len({case.partition("~")[0] for case in pair}) == 1 for pair in inside)
    assert sum(flagged for flagged, _ in result.calibration.planted.values()) >= 0.95 * 220
