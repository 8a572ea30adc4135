"""A plan's rules may name the figures that statistics make of its metrics, and no others."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_med.metrics.correct import Correct
from robustbench_med.metrics.detection import Detection
from robustbench_med.metrics.volume_error import VolumeError
from robustbench_med.plan_metrics import missing_metric
from robustbench_med.statistics.readings import readings_of
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores

METRICS = {"right": Correct(), "size": VolumeError(), "found": Detection()}


def plan(**tolerances):
    return SimpleNamespace(tolerances=tolerances)


def made(name, metric, tolerance, threshold):
    """What statistics make of a metric's records."""
    meaning = Meaning(
        metric.better, "mean", None, tolerance, getattr(metric, "reads", ""), threshold
    )
    flags = np.zeros((2, 1), dtype=bool)
    truth = np.array([0.0, 1.0]) if meaning.reads else None
    probe = ProbeEntry("clean", "clean", 0.0)
    scores = Scores(name, meaning, (probe,), np.full((2, 1), 0.5), ~flags, flags, truth=truth)
    return [reading.metric for reading in readings_of([scores])]


@pytest.mark.parametrize("tolerance", [None, 0.5])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_what_may_be_named_is_what_statistics_make(tolerance, threshold):
    everything = {name for key, metric in METRICS.items() for name in made(key, metric, 0.5, 0.5)}
    tolerances = dict.fromkeys(METRICS, tolerance) if tolerance else {}
    for key, metric in METRICS.items():
        there = set(made(key, metric, tolerance, threshold))
        for name in everything:
            if name.split(".")[0] == key:
                lacks = missing_metric(
                    name, plan(**tolerances), METRICS, ["found"] if threshold else []
                )
                assert (lacks is None) == (name in there), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("right.failure", "give right a tolerance"),
        ("found.ppv", "give found a threshold, or add [calibrate]"),
        ("found.acu", "did you mean 'found.auc'?"),
        ("quite wrong", "known: right, size, "),
    ],
)
def test_what_is_lacking_is_said(name, said):
    assert missing_metric(name, plan(), METRICS, []).startswith(said)


def test_the_page_of_the_gate_names_them_all():
    page = (Path(__file__).parents[2] / "docs/gate.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`NAME\.(\w+)`", page))
    everything = {name for key, metric in METRICS.items() for name in made(key, metric, 0.5, 0.5)}
    assert named == {name.partition(".")[2] for name in everything} - {""}
