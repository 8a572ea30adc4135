"""Label schemas, target cells, bands, splits, grids and intensities, each on its own."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from robustbench_med.cohorts.attribute import Band, number, read_wanted
from robustbench_med.cohorts.grid import Grid, read_grid
from robustbench_med.cohorts.intensity import Intensity, intensity_rule
from robustbench_med.cohorts.labels import label_schema, mask_schema
from robustbench_med.cohorts.partition import Drawn, read_partition
from robustbench_med.cohorts.table import Row, id_problem, path_problem
from robustbench_med.cohorts.target import read_task, target_tensor, target_values
from robustbench_med.errors import InputError


def test_both_cardiac_schemas_give_the_model_the_same_classes():
    acdc = label_schema("acdc").classes(np.array([0, 3, 2, 1]))
    mnms = label_schema("mnms").classes(np.array([0, 1, 2, 3]))
    ukbb = label_schema("ukbb").classes(np.array([0, 1, 2, 3]))
    assert label_schema("acdc").names == ("background", "lv", "myo", "rv")
    assert label_schema("acdc").names == label_schema("mnms").names == label_schema("ukbb").names
    assert acdc.tolist() == mnms.tolist() == ukbb.tolist() == [0, 1, 2, 3]


def test_a_mapping_gives_classes_in_its_own_order_and_merges_listed_values():
    schema = mask_schema({"lesion": [2, 7], "background": 0})
    assert schema.names == ("lesion", "background")
    assert schema.classes(np.array([[0.0, 2.0], [7.0, 0.0]])).tolist() == [[1, 0], [0, 1]]


def test_the_spelling_of_a_stored_number_does_not_matter():
    schema = label_schema({"benign": 0, "malignant": 1})
    assert [schema.index(cell) for cell in ("0", "0.0", "1", " 1.0 ", "2", "", "x")] == [
        0, 0, 1, 1, None, None, None,
    ]  # fmt: skip


def test_mask_values_of_no_class_are_named_and_not_a_number_is_one_of_them():
    schema = mask_schema({"background": 0, "lung": 255})
    assert schema.problem(np.array([0, 255], dtype=np.uint8)) is None
    assert "values 3, 254 are not" in str(schema.problem(np.array([0, 3, 254])))
    assert "background = 0, lung = 255" in str(schema.problem(np.array([3])))
    assert "nan" in str(schema.problem(np.array([0.0, np.nan])))
    assert "0.5" in str(schema.problem(np.array([0.0, 0.5])))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("acdcc", "did you mean 'acdc'"),
        ({}, "expected class names"),
        (3, "expected class names"),
        ({"a": 1, "b": [1, 2]}, "more than one class"),
        ({"a": ""}, "a: expected a number or text"),
        ({"a": True, "b": 0}, "a: expected a number or text"),
        ({"a": []}, "a: expected a number or text"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        label_schema(labels)


def test_a_mask_stores_numbers_only():
    with pytest.raises(InputError, match="a mask stores numbers, got"):
        mask_schema({"background": "zero", "lung": 1})


def test_targets_have_the_shapes_that_their_tasks_state():
    task, schema = read_task("classification", {"no": "N", "yes": ["Y", "y"]}, ["t"])
    assert task.classes == ("no", "yes")
    one = target_tensor(task, target_values(task, schema, ["y"]))
    assert one.shape == ()
    assert one.dtype == torch.int64
    assert one.item() == 1
    task, schema = read_task("multilabel", None, ["edema", "mass"])
    flags = target_tensor(task, target_values(task, schema, ["1", "0.0"]))
    assert flags.tolist() == [1, 0]
    task, schema = read_task("regression", None, ["ef_percent"])
    values = target_tensor(task, target_values(task, schema, ["54.5"]))
    assert values.dtype == torch.float32
    assert values.tolist() == [54.5]


@pytest.mark.parametrize(
    ("kind", "labels", "cells", "message"),
    [
        ("classification", {"no": 0, "yes": 1}, [""], "the target is empty"),
        ("classification", {"no": 0, "yes": 1}, ["2"], "'2' is not in the label schema"),
        ("multilabel", None, ["1", "-1"], "must be 0 or 1, got"),
        ("regression", None, ["nan"], "must be numbers"),
    ],
)
def test_target_cells_that_state_no_truth_are_refused(kind, labels, cells, message):
    task, schema = read_task(kind, labels, [f"t{i}" for i in range(len(cells))])
    with pytest.raises(InputError, match=message):
        target_values(task, schema, cells)


@pytest.mark.parametrize(
    ("kind", "labels", "targets", "message"),
    [
        ("segment", None, ["t"], "did you mean 'segmentation'"),
        ("reconstruction", None, ["t"], "a folder states no 'reconstruction'"),
        ("classification", None, ["t"], "needs class names"),
        ("classification", {"a": 0, "b": 1}, ["t", "u"], "one target column"),
        ("regression", {"a": 0}, ["t"], "regression has none"),
        ("classification", {"a": 0}, ["t"], "at least 2 class names"),
    ],
)
def test_tasks_that_a_folder_cannot_state_are_refused(kind, labels, targets, message):
    with pytest.raises(InputError, match=message):
        read_task(kind, labels, targets)


def test_a_band_has_its_low_edge_and_the_last_one_both():
    band = Band("age", (0.0, 40.0, 60.0, 120.0))
    cells = ["0", "39.9", "40", "60", "120", ""]
    assert [band.of(cell) for cell in cells] == [
        "0-40", "0-40", "40-60", "60-120", "60-120", None,
    ]  # fmt: skip
    for cell in ("-1", "121", "old"):
        with pytest.raises(InputError, match="age: "):
            band.of(cell)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "age", "edge": [0, 1]}, "did you mean 'edges'"),
        ({"column": "age"}, "increasing edges"),
        ({"column": "age", "edges": [0, 0]}, "increasing edges"),
        ({"column": "age", "edges": [0, float("inf")]}, "increasing edges"),
        ({"column": "age", "edges": [True, 2]}, "increasing edges"),
        ([0, 1], "expected column and edges"),
    ],
)
def test_a_band_that_is_not_well_formed_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        read_wanted([], {"age_band": settings})


@pytest.mark.parametrize("name", ["case_id", "patient_id", "split", "z"])
def test_an_attribute_may_not_take_a_name_of_the_tables(name):
    with pytest.raises(InputError, match=f"the name '{name}' is taken"):
        read_wanted([name], {})
    with pytest.raises(InputError, match="more than once"):
        read_wanted(["age"], {"age": {"column": "age", "edges": [0, 1]}})


def test_codes_and_words_are_not_numbers():
    texts = ["7", "-7", "0.5", "1e3", "007", "nan", "inf", "1_000", "", "1e999", "٣"]
    assert [number(text) for text in texts] == [7, -7, 0.5, 1000.0, *[None] * 7]


def test_a_patients_split_is_stable_and_shares_are_met():
    draw = read_partition({"train": 0.6, "val": 0.1, "test": 0.3, "seed": 4}, "test")
    assert isinstance(draw, Drawn)
    ids = [f"p{i}" for i in range(4000)]
    row = Row(1, {})
    splits = [draw.of(row, patient) for patient in ids]
    assert splits == [draw.of(row, patient) for patient in ids]
    for name, share in draw.shares.items():
        spread = 4 * (share * (1 - share) / len(ids)) ** 0.5
        assert abs(splits.count(name) / len(ids) - share) < spread
    other = Drawn(draw.shares, seed=5)
    assert [other.of(row, patient) for patient in ids] != splits


def test_the_hash_of_a_split_is_the_documented_one():
    import hashlib

    draw = Drawn({"a": 0.5, "b": 0.5}, seed=0)
    for patient in ("x", "y", "z", "w"):
        high_bit = hashlib.sha256(f"0\x1f{patient}".encode()).digest()[0] >= 128
        assert draw.of(Row(1, {}), patient) == ("b" if high_bit else "a")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": 0.6, "test": 0.3}, "must sum to 1"),
        ({"train": 1.2, "test": -0.2}, "train: expected a share"),
        ({"train": "most", "test": 0.2}, "train: expected a share"),
        ({"train": 1.0, "seed": "x"}, "seed must be an integer"),
        ({"column": "split", "seed": 1}, "a column and nothing else"),
        ({"column": 3}, "a column and nothing else"),
        ("split", "expected a column or shares"),
    ],
)
def test_splits_that_are_no_splits_are_refused(splits, message):
    with pytest.raises(InputError, match=message):
        read_partition(splits, None)


def test_the_type_of_an_integer_sets_the_range():
    rule = intensity_rule("dtype")
    assert rule(np.array([0, 51, 255], dtype=np.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert rule(np.array([0, 65535], dtype=np.uint16)).tolist() == [0, 1]
    assert rule(np.array([-32768, 32767], dtype=np.int16)).tolist() == [0, 1]
    assert rule(np.array([False, True])).tolist() == [0, 1]
    assert "needs integers" in str(rule.problem(np.zeros(2, dtype=np.float32)))


def test_a_window_clips_and_a_case_is_scaled_by_its_percentiles():
    window = intensity_rule([-100, 300])
    assert window(np.array([-500, -100, 100, 900])).tolist() == [0, 0, 0.5, 1]
    values = np.arange(101, dtype=np.float64)
    scaled = intensity_rule("case")(values)
    assert scaled.dtype == np.float32
    assert scaled == pytest.approx(np.clip((values - 1) / 98, 0, 1), abs=1e-6)
    assert intensity_rule("case")(np.full(5, 7)).tolist() == [0] * 5
    sparse = np.zeros(1000)
    sparse[3] = 4
    assert Intensity("case")(sparse).max() == 1


@pytest.mark.parametrize(
    "rule", ["types", [1, 1], [0], [0, float("nan")], ["a", "b"], 3, [True, 5]]
)
def test_an_intensity_that_is_no_range_is_refused(rule):
    with pytest.raises(InputError, match="intensity: expected"):
        intensity_rule(rule)


def test_a_grid_resizes_volumes_plane_by_plane():
    image = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    grid = read_grid([4, 5], "resize")
    whole = grid.image(image)
    for z in range(3):
        plane = F.interpolate(
            image[None, :, z], (4, 5), mode="bilinear", align_corners=False, antialias=True
        )[0]
        assert torch.allclose(whole[:, z], plane)
    assert grid.spacing_mm((5, 1, 2), image.shape).tolist() == [5, 2, 4]


@pytest.mark.parametrize("size", [(4, 5), (3, 7), (11, 13)])
def test_a_mask_takes_the_class_of_the_nearest_voxel_centre(size):
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (2, 8, 10)))
    y, x = (
        [int((i + 0.5) * stored / wanted) for i in range(wanted)]
        for stored, wanted in zip((8, 10), size, strict=True)
    )
    nearest = mask.numpy()[:, y][:, :, x]
    assert np.array_equal(read_grid(list(size), "resize").mask(mask, 0).numpy(), nearest)


def test_a_crop_keeps_the_centre_and_pads_by_background():
    image = torch.arange(1.0, 26.0).reshape(1, 5, 5)
    assert read_grid([1, 3], "crop").image(image).tolist() == [[[12.0, 13.0, 14.0]]]
    padded = read_grid([7, 5], "crop").mask(torch.ones(5, 5, dtype=torch.int64), 2)
    assert padded.shape == (7, 5)
    assert padded[0].tolist() == padded[6].tolist() == [2] * 5
    assert padded[1:6].eq(1).all()
    assert read_grid([7, 5], "crop").spacing_mm((1, 2), (5, 5)).tolist() == [1, 2]


def test_no_size_leaves_image_and_mask_alone():
    image, mask = torch.rand(1, 4, 4), torch.ones(4, 4, dtype=torch.int64)
    assert Grid().image(image) is image
    assert Grid().mask(mask, 0) is mask


@pytest.mark.parametrize("size", [[3], [0, 4], [2.5, 4], "44", [True, 4], 4])
def test_a_size_that_is_not_rows_and_columns_is_refused(size):
    with pytest.raises(InputError, match="size: expected two positive integers"):
        read_grid(size, "resize")


@pytest.mark.parametrize("value", ["a/b", "a\\b", "..", "a\tb", "a\x00", "a\u202eb"])
def test_case_ids_that_could_be_paths_or_hide_text_are_refused(value):
    assert id_problem("case", value)


def test_ids_are_texts_that_may_look_like_anything_else():
    assert id_problem("case", "<script>alert(1)</script>".replace("/", "")) is None
    assert id_problem("patient", "a/b..c") is None
    assert id_problem("patient", "")


@pytest.mark.parametrize(
    "text", ["../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "..\\a.png", "\\\\host\\a", ""]
)
def test_paths_that_leave_the_folder_are_refused(text):
    assert path_problem("image", text)
    assert path_problem("image", "images/a..b.png") is None
