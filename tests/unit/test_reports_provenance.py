"""The report says how often the cases were looked at, and where thresholds are from."""

import runpy
from pathlib import Path

import pytest

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.provenance import provenance
from robustbench_med.runfolder import Run, write_json

FIXTURE = runpy.run_path(str(Path(__file__).with_name("reports_fixture.py")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return FIXTURE["make_run"](tmp_path_factory.mktemp("runs") / "cine", patients=40)


def told(run, **manifest):
    write_json(run.manifest_path, {**run.manifest, **manifest})
    return provenance(Evidence.of(Run.open(run.folder)))


def test_a_run_without_a_ledger_says_nothing_of_looks(run):
    for looks in ({}, {"looks": None}):
        assert not any("look" in line for line in told(run, **looks).paragraphs)


@pytest.mark.parametrize(
    ("number", "models", "said"),
    [(1, 1, "look number 1 at these cases, by one model"), (7, 3, "by 3 different models")],
)
def test_the_number_of_looks_and_models_is_told(run, number, models, said):
    looks = {"number": number, "models": models, "intact": True}
    lines = told(run, looks=looks).paragraphs
    assert said in lines[1]
    assert len(lines) == 2


def test_a_ledger_that_is_not_whole_is_told(run):
    lines = told(run, looks={"number": 1, "models": 1, "intact": False}).paragraphs
    assert "not whole" in lines[-1]


def test_thresholds_come_with_their_source(run):
    metrics = {
        "right": {"better": "higher"},
        "found": {"better": "higher", "threshold": 0.31, "threshold_from": "model card: <b>val"},
        "other": {"better": "higher", "threshold": None, "threshold_from": None},
    }
    (table,) = [t for t in told(run, metrics=metrics).tables if "Threshold" in t.caption]
    assert table.rows == (("found", "0.310", "model card: <b>val"),)
    assert not any("Threshold" in t.caption for t in told(run, metrics={}).tables)
