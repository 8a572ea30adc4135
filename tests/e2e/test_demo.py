"""What comes with the package for the demonstration, and the demonstration itself."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from robustbench_med.cli import main
from robustbench_med.commands.demo import PLANS, lay_out
from robustbench_med.commands.train import trained_before
from robustbench_med.plan import load_plan
from robustbench_med.questions import build_cohort

DEMO = Path(str(files("robustbench_med.demo")))
TRAINED = [name for name in PLANS if load_plan(DEMO / name).train is not None]
LARGEST = 2 * 2**20


@pytest.mark.parametrize("name", TRAINED)
def test_weights_that_come_along_are_those_that_this_code_would_train(name, tmp_path):
    # A failure means that simulation or plan changed: make weights, and look at the figures.
    lay_out(tmp_path, with_weights=True)
    plan = load_plan(tmp_path / name)
    card = trained_before(plan, build_cohort(plan, "train"))
    assert card is not None
    assert len(card.curve) == card.training["epochs"]


@pytest.mark.parametrize("name", TRAINED)
def test_weights_that_come_along_are_small(name):
    weights = DEMO / str(load_plan(DEMO / name).model["weights"])
    assert weights.stat().st_size <= LARGEST


def test_every_plan_can_be_checked(tmp_path, capsys):
    lay_out(tmp_path, with_weights=True)
    for name in PLANS:
        assert main(["check", str(tmp_path / name)]) == 0
    assert "64 patients" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demonstration_ends_in_a_page_and_a_second_call_changes_nothing(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    page = Path(told["page"]).read_text(encoding="utf-8")
    for part in ("The chain, patient by patient", "The stages, over all patients", "LVEF", "HCM",
                 "demo-chain/report.html", "<svg"):  # fmt: skip
        assert part in page
    for word in ("<script", "http://localhost", "nan ["):
        assert word not in page
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    shutil.rmtree(tmp_path)
