"""Cohorts that are wrong, small or hostile: named by case, and inert in every report."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import robustbench_med as rb

SEGMENTATION = """
name = "lesions"
seed = 1

[cohort]
use = "folder"
folder = "data"
task = "segmentation"
columns = { case = "case_id", patient = "patient_id", image = "image", target = "mask" }
labels = { background = 0, lesion = 1 }

[model]
use = "study_model:segmenter"

[[metrics]]
use = "dice"
label = "lesion"

[[attack]]
use = "pgd"
steps = 2
ball = { norm = "linf", eps = 0.01 }
"""
SEGMENTER = """

class Segmenter(nn.Module):
    '''A voxel is lesion if it is brighter than one half.'''

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), 10 * (image - 0.5)], dim=1)


def segmenter():
    return Segmenter()
"""


def rename(study, old, new):
    study.edit_table(lambda lines: [line.replace(old, new, 1) for line in lines])


def folder_cohort(study):
    return rb.build("cohorts", "folder", **rb.load_plan(study.plan).cohort.settings)


def test_a_cohort_without_cases_is_refused(study):
    study.edit_table(lambda lines: lines[:1])
    (said,) = study.refused(2, "check", study.plan)
    assert "cases.csv: expected a header and at least one row, got 1" in said
    assert study.refused_run() == [said]
    task = rb.Task("classification", ("dark", "bright"))
    empty = rb.Cohort("nobody", task, (0, 1), [])
    model = rb.TorchModel(rb.build("networks", "lenet", preset="small"), task, (0, 1))
    with pytest.raises(rb.errors.InputError, match="'nobody': expected at least 1 case, got 0"):
        list(rb.evaluate(model, empty, []))


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param("[]", id="no attributes"),
        pytest.param(
            '["sex", "site"]',
            id="attributes",
        ),
    ],
)
def test_one_patient_runs_and_nothing_is_told_of_him(study, attributes):
    study.edit_table(lambda lines: lines[:2])
    study.edit('subgroups = ["sex"]', "")
    study.edit('attributes = ["sex", "site"]', f"attributes = {attributes}")
    code, out, err = study.run()
    assert (code, err) == (0, "")
    assert "1 cases, 1 patients" in out
    estimates = study.opened().estimates
    assert set(estimates["status"]) == {"suppressed"}
    assert estimates[["value", "low", "high"]].isna().all(axis=None)
    assert study.opened().records["value"].notna().all()
    code, out, _ = study.rbmed("gate", study.folder / "run", study.folder / "policy.toml")
    assert code == 3
    assert "fewer than 10 patients: not shown" in out


def test_an_empty_mask_has_no_dice_and_counts_as_undefined(study):
    rows = ["case_id,patient_id,image,mask"]
    for i in range(12):
        mask = np.zeros((8, 8), np.uint8)
        if i != 4:
            mask[2:5, 2:5] = 1
        Image.fromarray(mask).save(study.folder / "data" / f"mask{i}.png")
        Image.fromarray(50 + 150 * mask).save(study.folder / "data" / f"image{i}.png")
        rows.append(f"case{i},patient{i},image{i}.png,mask{i}.png")
    study.edit_table(lambda lines: rows)
    study.edit_model(SEGMENTER)
    study.plan.write_text(SEGMENTATION, encoding="utf-8")
    code, _, err = study.run()
    assert (code, err) == (0, "")
    run = study.opened()
    assert run.failures.empty
    dice = run.records.query("metric == 'dice_lesion'")
    assert dice.query("case_id == 'case4'")["value"].isna().all()
    assert (dice.query("case_id != 'case4'")["value"] == 1).all()
    rows = run.estimates.query("metric == 'dice_lesion'")
    assert set(rows["undefined"]) == {1}
    assert set(rows["cases"]) == {11}
    assert "Values that are undefined though nothing failed" in study.report()


def test_corrupt_and_missing_images_among_good_ones_are_named_at_once(study):
    images = study.folder / "data" / "images"
    whole = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(whole[:40])
    (images / "5.png").write_text("not an image")
    (images / "6.png").unlink()
    lines = study.refused_run()
    assert len(lines) == 3
    for line, number, i in zip(lines, (5, 7, 8), (3, 5, 6), strict=True):
        assert f"cases.csv line {number}: case 'case{i}'" in line
        assert f"images/{i}.png: " in line
    with pytest.raises(rb.errors.InputError, match="case 'case3'"):
        folder_cohort(study)
    for i in (3, 5, 6):
        (images / f"{i}.png").write_bytes(whole)
    assert study.rbmed("check", study.plan)[0] == 0


def test_an_image_that_rots_after_a_run_loses_nothing_of_it(study):
    study.edit_table(lambda lines: lines[:9])
    study.run()
    image = study.folder / "data" / "images" / "3.png"
    whole, report = image.read_bytes(), study.report()
    image.write_bytes(whole[:40])
    (said,) = study.refused_run()
    assert "case 'case3'" in said
    assert study.report() == report
    assert len(study.opened().records.query("probe == 'clean'")) == 8
    image.write_bytes(whole)
    assert study.run()[0] == 0
    assert study.report() == report


@pytest.mark.parametrize("name", ["../case3", "..", "a/b", "a\\b", "case\x003", ""])
def test_a_case_id_that_is_no_safe_name_is_refused_by_name(study, name):
    rename(study, "case3,", f"{name},")
    (said,) = study.refused_run()
    assert "cases.csv line 5: case id" in said
    assert not name or repr(name) in said


def test_a_patient_and_a_path_that_leave_the_folder_are_refused(study):
    rename(study, "images/3.png", "../../3.png")
    rename(study, "images/4.png", "/etc/passwd")
    first, second = study.refused_run()
    assert "image: '../../3.png' leaves the folder" in first
    assert "image: '/etc/passwd' leaves the folder" in second


def test_an_id_that_is_there_twice_is_refused(study):
    rename(study, "case3,", "case4,")
    (said,) = study.refused_run()
    assert "case4" in said


def test_markup_in_ids_and_attributes_is_inert(study):
    hostile = "<script>alert(1)"
    rename(study, "case4,", f"{hostile},")
    rename(study, "patient4,", "<img src=x onerror=alert(1)>,")
    rename(study, "<b>&", "</table><script>alert(2)</script>")
    study.edit('subgroups = ["sex"]', 'subgroups = ["site"]')
    assert study.run()[0] == 0
    assert hostile in set(study.opened().records["case_id"])
    assert "<script" not in study.report().lower()
    assert "<img" not in study.report().lower()
    assert "&lt;/table&gt;" in study.report()
    code, out, _ = study.rbmed("gate", study.folder / "run", study.folder / "policy.toml")
    assert code in (0, 3)
    assert "\x1b" not in out
    summary = (study.folder / "run" / "summary.md").read_text(encoding="utf-8")
    assert "<script" not in summary


def test_formulas_and_endless_attributes_stay_data(study):
    value = "=cmd()" + "x" * 10_000
    study.edit_table(lambda lines: [line.replace(",F,<b>&", f",F,{value}") for line in lines])
    study.edit('subgroups = ["sex"]', 'subgroups = ["site"]')
    code, out, err = study.run()
    assert (code, err) == (0, "")
    cases = study.opened().cases.set_index("case_id")
    assert cases.loc["case0", "site"] == value
    assert cases.loc["case1", "site"] == "<b>&"
    assert "x" * 1000 not in study.report()
    assert "=cmd()" in study.report()
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80
    groups = set(study.opened().estimates.query("subgroup == 'site'")["group"])
    assert groups == {value, "<b>&"}


def test_a_class_that_the_labels_lack_is_refused_by_case(study):
    study.edit_table(lambda lines: [line.replace("3.png,1,", "3.png,7,") for line in lines])
    lines = study.refused_run()
    assert "cases.csv line 5" in lines[0]
    assert "'7'" in lines[0]


def test_a_python_cohort_is_held_to_its_bounds_by_evaluate(study):
    study.edit_table(lambda lines: lines[:5])
    cohort = folder_cohort(study)
    cases = list(cohort.cases)
    bad = rb.Case("loud", "p", cases[0].image + 1, cases[0].target)
    cohort = rb.Cohort("loud", cohort.task, cohort.bounds, [*cases, bad])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    model = rb.TorchModel(network, cohort.task, cohort.bounds)
    probe = rb.clean({"correct": rb.build("metrics", "correct")})
    with pytest.raises(rb.errors.InputError, match=r"case 'loud', image: expected voxels within"):
        pd.DataFrame(rb.evaluate(model, cohort, [probe]))
