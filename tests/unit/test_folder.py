"""What a folder of pictures gives, and everything it is refused for."""

import csv
import inspect
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_med.cases import Summarised
from robustbench_med.cohorts.folder import load_folder
from robustbench_med.components import build
from robustbench_med.errors import InputError, IntegrityError

COLUMNS = {"case": "id", "patient": "who", "image": "file", "target": "bad"}
HEADER = ["id", "who", "file", "bad", "sex", "age", "part"]
ROWS = [
    ["c0", "p0", "i0.png", "0", "F", "30", "train"],
    ["c1", "p0", "i1.png", "1", "F", "31", "train"],
    ["c2", "p1", "i2.png", "1", "", "", "test"],
    ["c3", "p2", "i3.png", "0", "M", "80", "test"],
]


def write(root: Path, rows=ROWS, header=HEADER) -> Path:
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (6, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"i{index}.png")
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def load(root: Path, **settings):
    given = {"task": "classification", "columns": COLUMNS, "labels": {"no": 0, "yes": 1}}
    return load_folder(folder=str(root), **{**given, **settings})


def changed(row: int, column: str, value: str) -> list[list[str]]:
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


def test_a_folder_gives_its_cases_in_the_order_of_the_table(root):
    cohort = build("cohorts", "folder", folder=str(root), task="classification", columns=COLUMNS,
                   labels={"no": 0, "yes": 1})  # fmt: skip
    assert cohort.name == root.name
    assert cohort.bounds == (0.0, 1.0)
    assert cohort.task.classes == ("no", "yes")
    assert [case.case_id for case in cohort.cases] == ["c0", "c1", "c2", "c3"]
    assert [int(case.target) for case in cohort.cases] == [0, 1, 1, 0]
    case = cohort.cases[2]
    stored = np.asarray(Image.open(root / "i2.png"), dtype=np.float32) / 255
    assert case.image.dtype == torch.float32
    assert np.array_equal(case.image[0].numpy(), stored)
    assert case.patient_id == "p1"
    assert [case.case_id for case in cohort.cases[1:3]] == ["c1", "c2"]


def test_missing_attributes_stay_missing_and_numbers_are_numbers(root):
    bands = {"age_band": {"column": "age", "edges": [0, 40, 120]}}
    cohort = load(root, attributes=["sex", "age"], bands=bands, name="mine")
    assert cohort.name == "mine"
    assert [dict(case.attributes) for case in cohort.cases] == [
        {"sex": "F", "age": 30, "age_band": "0-40"},
        {"sex": "F", "age": 31, "age_band": "0-40"},
        {"sex": None, "age": None, "age_band": None},
        {"sex": "M", "age": 80, "age_band": "40-120"},
    ]
    assert cohort.summary(0).attributes == cohort.cases[0].attributes


def test_where_keeps_rows_by_value_and_a_star_is_any_value(root):
    assert [c.case_id for c in load(root, where={"sex": "*"}).cases] == ["c0", "c1", "c3"]
    both = load(root, where={"sex": ["F", "M"], "age": [30, 80]})
    assert [c.case_id for c in both.cases] == ["c0", "c3"]
    with pytest.raises(InputError, match=r"no row .* is left at sex = \['X'\]; the column holds"):
        load(root, where={"sex": "X"})


def test_a_column_states_the_split_and_the_case_keeps_it(root):
    cohort = load(root, splits={"column": "part"}, split="test")
    assert [case.case_id for case in cohort.cases] == ["c2", "c3"]
    assert {case.attributes["split"] for case in cohort.cases} == {"test"}
    assert len(load(root, splits={"column": "part"})) == 4


def test_drawn_splits_share_no_patient_and_together_are_the_cohort(tmp_path):
    rows = [[f"c{i}", f"p{i // 3}", "i0.png", "0", "", "", ""] for i in range(60)]
    root = write(tmp_path, rows)
    splits = {"train": 0.5, "test": 0.5, "seed": 3}
    parts = {name: load(root, splits=splits, split=name) for name in ("train", "test")}
    patients = {name: {c.patient_id for c in part.cases} for name, part in parts.items()}
    assert not patients["train"] & patients["test"]
    assert len(parts["train"]) + len(parts["test"]) == 60
    fewer = load(write(tmp_path, rows[:30]), splits=splits, split="train")
    assert {c.patient_id for c in fewer.cases} <= patients["train"]


def test_markup_in_ids_and_attributes_is_text_like_any_other(tmp_path):
    rows = changed(0, "id", "<script>")
    rows[0][4] = rows[1][4] = "<b>&amp;</b>"
    case = load(write(tmp_path, rows), attributes=["sex"]).cases[0]
    assert case.case_id == "<script>"
    assert case.attributes["sex"] == "<b>&amp;</b>"


def test_a_cohort_pickles_and_knows_its_digests_without_decoding(root):
    cohort = load(root, size=[4, 4])
    copy = pickle.loads(pickle.dumps(cohort))  # noqa: S301
    assert torch.equal(copy.cases[1].image, cohort.cases[1].image)
    assert isinstance(copy.cases, Summarised)
    digests = [cohort.summary(i).digest for i in range(4)]
    for file in root.glob("*.png"):
        file.unlink()
    assert [copy.summary(i).digest for i in range(4)] == digests
    assert len(set(digests)) == 4


def test_the_digest_follows_pixels_ids_target_and_settings_but_not_attributes(tmp_path):
    def digest(rows=ROWS, **settings):
        return load(write(tmp_path, rows), **settings).summary(0).digest

    plain = digest()
    assert digest() == plain
    assert digest(attributes=["sex"], splits={"column": "part"}, name="x") == plain
    assert digest(changed(1, "bad", "0")) == plain
    different = [
        digest(changed(0, "id", "other")),
        digest([["c0", "p9", *ROWS[0][2:]]]),
        digest(changed(0, "bad", "1")),
        digest(size=[4, 4]),
        digest(size=[4, 4], fit="crop"),
        digest(colour="rgb"),
        digest(intensity=[0, 128]),
        digest(labels={"yes": 1, "no": 0}),
    ]
    assert len({plain, *different}) == 9
    write(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "i0.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "i0.png")
    cohort = load(tmp_path)
    assert cohort.summary(0).digest != plain


def test_a_file_that_changes_after_the_load_is_never_given_out(root):
    cohort = load(root)
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(root / "i1.png")
    with pytest.raises(IntegrityError, match=r"i1.png changed since the cohort was loaded"):
        cohort.cases[1]
    (root / "i2.png").unlink()
    with pytest.raises(IntegrityError, match=r"i2.png was read at the load and now cannot be"):
        cohort.cases[2]
    assert cohort.cases[0].image.shape == (1, 6, 8)


def test_the_user_page_explains_every_key_and_its_examples_use_no_other():
    page = (Path(__file__).parents[2] / "docs" / "folder.md").read_text(encoding="utf-8")
    keys = set(inspect.signature(load_folder).parameters)
    assert {key for key in keys if f"| `{key}` |" not in page} == set()
    examples = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    assert {key for example in examples for key in example["cohort"]} == keys | {"use"}


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (changed(1, "id", "c0"), {}, r"line 3: case id 'c0' repeats line 2"),
        (changed(1, "id", "a/b"), {}, r"line 3: case id 'a/b' holds '/'"),
        (changed(1, "id", ".."), {}, r"case id '..' holds"),
        (changed(1, "id", "a\x07"), {}, r"holds a control character"),
        (changed(1, "id", ""), {}, r"case id is empty"),
        (changed(1, "who", " "), {}, r"line 3: patient id is empty"),
        (changed(1, "bad", ""), {}, r"line 3: the target is empty"),
        (changed(1, "bad", "2"), {}, r"target '2' is not in the label schema \(no = 0, yes = 1\)"),
        (changed(1, "file", "../i1.png"), {}, r"file: '../i1.png' leaves the folder"),
        (changed(1, "file", "/i1.png"), {}, r"file: '/i1.png' leaves the folder"),
        (changed(1, "file", ""), {}, r"file is empty"),
        (changed(1, "file", "gone.png"), {}, r"case 'c1': .*gone.png: no such file"),
        (changed(1, "file", "cases.csv"), {}, r"cases.csv: expected .png"),
        (changed(1, "part", "test"), {"splits": {"column": "part"}},
         r"patient 'p0' is in more than one split: \['test', 'train'\]"),
        (changed(1, "part", ""), {"splits": {"column": "part"}}, r"line 3: the split is empty"),
        (ROWS, {"splits": {"column": "part"}, "split": "tset"}, r"no 'tset'; did you mean 'test'"),
        (ROWS, {"splits": {"column": "part"}, "split": "test", "where": {"part": "train"}},
         r"split: 'test' has no cases"),
        (ROWS, {"splits": {"a": 1e-9, "b": 1 - 1e-9}}, r"split: 'a' has no cases"),
        (ROWS, {"split": "test"}, r"'test' is asked for, but no splits are stated"),
        (ROWS, {"attributes": ["sexx"]}, r"has no column 'sexx'; did you mean 'sex'"),
        (ROWS, {"where": {"parts": "x"}}, r"where: .* has no column 'parts'"),
        (ROWS, {"splits": {"column": "parts"}}, r"splits: .* has no column 'parts'"),
        (ROWS, {"columns": {**COLUMNS, "image": "fil"}}, r"did you mean 'file'"),
        (ROWS, {"columns": {**COLUMNS, "mask": "x"}}, r"columns: no 'mask'"),
        (ROWS, {"columns": {"case": "id"}}, r"columns: 'patient' is missing"),
        (ROWS, {"bands": {"b": {"column": "sex", "edges": [0, 1]}}}, r"b: sex: expected a number"),
        (ROWS, {"bands": {"b": {"column": "age", "edges": [0, 50]}}},
         r"line 5: b: age: expected 0 to 50, got '80'; mend or empty the cell, or add an edge"),
        (ROWS, {"attributes": ["split"]}, r"the name 'split' is taken"),
        (ROWS, {"table": "cases.tsv"}, r"cases.tsv: no such file"),
        (ROWS, {"volume": "slices"}, r"needs a z axis"),
        ([], {}, r"at least one row, got 1"),
        ([["c0"]], {}, r"expected 7 cells a line, got another number in lines \[2\]"),
    ],
)  # fmt: skip
def test_a_wrong_folder_is_refused_by_name(tmp_path, rows, settings, message):
    with pytest.raises(InputError, match=message):
        load(write(tmp_path, rows), **settings)


def test_a_table_that_is_no_table_is_refused(tmp_path):
    write(tmp_path, header=["id", "id", *HEADER[2:]])
    with pytest.raises(InputError, match=r"columns \['id'\] stand there more than once"):
        load(tmp_path)
    (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected a CSV in UTF-8"):
        load(tmp_path)


def test_a_byte_order_mark_and_blank_lines_do_no_harm(root):
    text = (root / "cases.csv").read_text(encoding="utf-8")
    (root / "cases.csv").write_text(text.replace("\n", "\n\n"), encoding="utf-8-sig")
    assert len(load(root)) == 4


def test_all_mistakes_in_the_settings_are_named_at_once(root):
    with pytest.raises(InputError) as caught:
        load(root, fit="krop", size=[0], colour="red", intensity="x", axes="yy", where=3,
             splits={"a": 2}, attributes=["z"], task="classify", columns={})  # fmt: skip
    lines = str(caught.value).splitlines()
    for key in ("fit", "size", "colour", "intensity", "axes", "where", "splits", "attributes",
                "task", "columns"):  # fmt: skip
        assert any(line.startswith(key) for line in lines), key


def test_all_mistakes_in_rows_and_files_are_named_at_once(tmp_path):
    rows = changed(0, "who", "")
    rows[1][2] = "gone.png"
    rows[2][3] = "9"
    write(tmp_path, rows)
    (tmp_path / "i3.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert sorted(re.match(r"cases.csv line (\d)", line)[1] for line in lines) == list("2345")


def test_only_the_first_of_very_many_mistakes_are_printed(tmp_path):
    rows = [[f"c{i}", "p", "gone.png", "0", "", "", ""] for i in range(50)]
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, rows))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 30 more"


def test_only_the_files_of_the_split_that_is_loaded_are_opened(root):
    (root / "i0.png").unlink()
    assert len(load(root, splits={"column": "part"}, split="test")) == 2
