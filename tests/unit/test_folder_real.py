"""The folder reader on real images, where they are; each truth is read again by other means."""

import csv
import os
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_med.cohorts.folder import load_folder

DATA = Path(os.environ.get("RBMED_DATA", Path(__file__).parents[3] / "shared" / "data"))
COLUMNS = {"case": "case_id", "patient": "patient_id", "image": "image"}


def rows(name: str) -> list[dict[str, str]]:
    table = DATA / name / "cases.csv"
    if not table.is_file():
        pytest.skip(f"no {name} images: set RBMED_DATA to the folder that holds them")
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_skin_lesions_are_split_by_lesion_and_keep_their_labels():
    table = {row["case_id"]: row for row in rows("derm")}
    bands = {"age_band": {"column": "age_years", "edges": [0, 40, 60, 120]}}
    found = {}
    for split in ("train", "val", "test"):
        cohort = load_folder(
            folder=str(DATA / "derm"), task="classification",
            columns={**COLUMNS, "target": "malignant"}, labels={"benign": 0, "malignant": 1},
            attributes=["sex", "age_years", "site"], bands=bands, size=[32, 32], colour="rgb",
            splits={"train": 0.6, "val": 0.1, "test": 0.3}, split=split,
        )  # fmt: skip
        summaries = [cohort.summary(i) for i in range(len(cohort))]
        found[split] = {s.patient_id for s in summaries}
        for summary, place in zip(summaries, cohort.cases.places, strict=True):
            row = table.pop(summary.case_id)
            assert place.entry.values == (int(row["malignant"]),)
            assert summary.attributes["sex"] == (row["sex"] or None)
            assert summary.attributes["age_years"] == (int(row["age_years"] or -1) if
                                                       row["age_years"] else None)  # fmt: skip
    assert not table
    assert not found["train"] & found["test"]
    assert not found["train"] & found["val"]
    case = cohort.cases[0]
    assert case.image.shape == (3, 32, 32)
    picture = Image.open(DATA / "derm" / "images" / f"{case.case_id}.jpg")
    small = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    assert case.image.permute(1, 2, 0).numpy() == pytest.approx(small, abs=1.5 / 255)


def test_chest_radiographs_with_lung_masks_keep_the_drawn_pixels():
    drawn = [row for row in rows("cxr") if row["lung_mask"]]
    cohort = load_folder(
        folder=str(DATA / "cxr"), task="segmentation", columns={**COLUMNS, "target": "lung_mask"},
        labels={"background": 0, "lung": 255}, attributes=["sex", "site", "icu"],
        where={"lung_mask": "*"},
    )  # fmt: skip
    assert len(cohort) == len(drawn)
    for case, row in zip(cohort.cases, drawn, strict=True):
        mask = np.asarray(Image.open(DATA / "cxr" / row["lung_mask"]))
        assert np.array_equal(case.target.numpy() == 1, mask == 255)
        assert case.image.shape[1:] == case.target.shape
        assert case.attributes["sex"] == (row["sex"] or None)


def test_chest_radiographs_without_a_finding_are_dropped_when_asked():
    known = [row for row in rows("cxr") if row["covid19"]]
    settings = {
        "folder": str(DATA / "cxr"), "task": "classification", "size": [64, 64],
        "columns": {**COLUMNS, "target": "covid19"}, "labels": {"negative": 0, "positive": 1},
    }  # fmt: skip
    cohort = load_folder(**settings, where={"covid19": [0, 1]})
    assert len(cohort) == len(known)
    assert sum(int(case.target) for case in cohort.cases) == sum(r["covid19"] == "1" for r in known)
    with pytest.raises(ValueError, match="the target is empty; drop such rows with where"):
        load_folder(**settings)


def test_cardiac_volumes_have_the_voxel_counts_of_their_table_and_no_invented_spacing():
    table = rows("cmr")
    settings = {
        "folder": str(DATA / "cmr"), "task": "segmentation", "labels": "acdc",
        "columns": {**COLUMNS, "target": "label"}, "attributes": ["phase", "group", "sex"],
    }  # fmt: skip
    cohort = pickle.loads(pickle.dumps(load_folder(**settings)))  # noqa: S301
    assert cohort.task.classes == ("background", "lv", "myo", "rv")
    for case, row in zip(cohort.cases, table, strict=True):
        counts = torch.bincount(case.target.flatten(), minlength=4).tolist()
        assert counts[1:] == [int(row[f"{part}_vox"]) for part in ("lv", "myo", "rv")]
        assert not case.context
        assert case.attributes["sex"] is None
    first = np.asarray(nibabel.load(DATA / "cmr" / table[0]["image"]).dataobj).transpose(2, 1, 0)
    assert np.array_equal(cohort.cases[0].image[0].numpy(), first.astype(np.float32) / 255)
    slices = load_folder(**settings, volume="slices", where={"phase": "ES"})
    planes = sum(int(row["shape"].split("x")[2]) for row in table if row["phase"] == "ES")
    assert len(slices) == planes
    assert slices.cases[-1].image.ndim == 3
