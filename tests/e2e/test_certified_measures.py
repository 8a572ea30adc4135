"""From a plan to the limits of each patient's ejection fraction, in records, Python and report."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from robustbench_med.cli import main
from robustbench_med.cohorts.synthetic_cine import synthetic_cine
from robustbench_med.runfolder import Run
from robustbench_med.statistics.certain import certain_measures

PROOF = "ibp[linf<=0.004]"
COHORT = {"task": "segmentation", "size": 10, "pixel_mm": 15.0, "slices": 1,
          "population": "acdc"}  # fmt: skip
PLAN = """
name = "limits"
seed = 1
subgroups = ["sex", "phase"]
validity = false

[cohort]
use = "synthetic_cine"
task = "segmentation"
population = "acdc"
patients = 21
size = 10
pixel_mm = 15.0
slices = 1

[model]
use = "bands_model:load"

[[metrics]]
use = "correct"

[[metrics]]
use = "dice"
name = "dice_lv"
label = 1

[[attack]]
use = "pgd"
steps = 2
ball = { norm = "linf", eps = 0.004 }

[[certificate]]
use = "ibp"
ball = { norm = "linf", eps = 0.004 }
"""
CUTS = (0.25, 0.45, 0.6)
MODEL = f"""
import torch
from torch import nn


def load(classes=4):
    '''Class k of a pixel by its brightness: the highest of four lines, in bands.'''
    network = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        network.weight[:, 0, 0, 0] = torch.tensor([0.0, 3.0, 1.0, 2.0]) * 10
        bias = [0.0, -{sum(CUTS)}, -{CUTS[0]}, -{sum(CUTS[:2])}]
        network.bias[:] = torch.tensor(bias) * 10
    return network
"""
BANDS = (0, 2, 3, 1)  # from dark to bright: background, myocardium, RV, LV


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    plan = folder / "plan.toml"
    plan.write_text(PLAN, encoding="utf-8")
    (folder / "bands_model.py").write_text(MODEL, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        assert main(["run", str(plan), "--out", str(folder / "run"), "--quiet"]) == 0
        sys.modules.pop("bands_model", None)
    return Run.open(folder / "run")


def section_of(run):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    return page.split('<section id="certified_measures"')[1].split("</section>")[0]


def counts(image, offset):
    """Pixels of each class if all pixels are moved by so much; bands rise with brightness."""
    band = np.searchsorted(CUTS, np.clip(image + offset, 0, 1).ravel(), side="right")
    return np.bincount(np.array(BANDS)[band], minlength=4)


def lv_pixels(image, eps):
    """Fewest, own and most LV pixels: the LV is the brightest band, so corners decide."""
    return [int(counts(image, offset)[1]) for offset in (-eps, 0.0, eps)]


def test_limits_of_every_patient_are_those_of_the_brightest_and_the_darkest_images(run):
    found = certain_measures(run.records, run.cases, run.manifest, PROOF)
    cases = {case.case_id: case for case in synthetic_cine(**COHORT, patients=len(found)).cases}
    assert {one.patient_id for one in found} == {*run.cases["patient_id"]}
    assert not [one for one in found if one.left_out]
    for one in found:
        own = run.cases[run.cases["patient_id"] == one.patient_id].sort_values("phase")
        ed, es = (lv_pixels(cases[name].image.double().numpy(), 0.004) for name in own["case_id"])
        low = 100 * (ed[0] - es[2]) / ed[0] if ed[0] else (-np.inf if es[2] else 100.0)
        assert one.limits["lvef"] == pytest.approx((low, 100 * (ed[2] - es[0]) / ed[2]))
        assert one.clean["lvef"] == pytest.approx(100 * (ed[1] - es[1]) / ed[1])
        least, most = one.reached["lvef"]
        high = one.limits["lvef"][1]
        rising = (low, least, one.clean["lvef"], most, high)
        assert all(below <= above + 1e-9 for below, above in pairwise(rising))
        assert one.outside == 0
    assert any(one.reached["lvef"][0] < one.clean["lvef"] - 1 for one in found)


def test_the_size_of_a_voxel_and_the_answers_are_records_and_no_estimates(run):
    spacing = synthetic_cine(**COHORT, patients=1).cases[0].context["spacing"].double()
    sizes = run.records.query("metric == 'voxel_ml'")["value"]
    assert len(sizes) == len(run.cases)
    assert float(spacing.prod()) / 1000 in sizes.tolist()
    answered = run.records[run.records["metric"].str.startswith("answer.")]
    assert (answered.groupby("case_id")["value"].sum() == 10 * 10).all()
    assert not set(run.estimates["metric"]) & {"voxel_ml", "answer.1", "least.1"}


def test_the_report_has_the_section_and_names_no_patient(run):
    section = section_of(run)
    assert "limits for all 21 patients." in section
    assert "Counts under attack outside what is proved: 0" in section
    assert "Width certified: LVEF" in section
    assert "Width reached by attacks: LVEF" in section
    assert "LV mass, g" not in section  # of a single slice
    assert "sex: M" in section
    assert "phase: ED" not in section
    assert section.count("<svg") == 1
    assert not [name for name in run.cases["patient_id"] if name in section]
