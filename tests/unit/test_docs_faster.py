"""The page on faster attacks prints the stored figures, and its program and plan are good."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import torch

from robustbench_med import components
from robustbench_med.attacks.autoattack import Autoattack
from robustbench_med.certify.crown import Crown
from robustbench_med.engine.certified_survivors import CertifiedSurvivors
from robustbench_med.engine.layouts import ROUNDING, WORTH_IT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faster.md").read_text("utf-8")


def stored(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["layouts", "certified_survivors"])
def test_the_page_prints_every_row_that_was_measured(name):
    script = runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))
    assert "\n".join(script["table"](stored(name)["rows"])) in PAGE


def test_what_is_said_to_gain_saves_a_tenth_and_agrees():
    for row in stored("layouts")["rows"]:
        most, least = ROUNDING[row["name"]]
        agrees = row["difference"] <= most and row["slope"] >= least
        assert row["gains"] == (agrees and row["ratio"] <= WORTH_IT)


def test_with_a_certificate_the_same_cases_stand():
    standing = {}
    for row in stored("certified_survivors")["rows"]:
        standing.setdefault((row["network"], row["eps"]), set()).add(row["standing"])
        assert row.get("certified", 0) <= row["standing"]
    assert all(len(found) == 1 for found in standing.values())


def test_crown_saves_what_the_page_says():
    seconds = {}
    for row in stored("certified_survivors")["rows"]:
        seconds[row["network"], row["eps"], row["certifier"]] = row["seconds"]
        assert row["certifier"] != "crown" or row["certified"] == row["standing"]
    saved = [
        spent / seconds[network, eps, "crown"]
        for (network, eps, certifier), spent in seconds.items()
        if certifier == "none"
    ]
    assert round(min(saved)) == 8
    assert round(max(saved)) == 21


def test_the_plan_of_the_page_builds_what_it_says():
    (entry,) = tomllib.loads(blocks("toml")[0])["attack"]
    settings = {key: entry[key] for key in ("certifier", "first", "tail", "check")}
    made = components.build("attacks", entry["use"], **settings)
    assert made == CertifiedSurvivors(
        Crown(), (components.build("attacks", "pgd", steps=20),), (Autoattack(),), 0.1
    )


def test_the_program_of_the_page_runs():
    with torch.random.fork_rng():
        scope = {"__name__": "page"}
        exec(compile(blocks("python")[0], "faster.md", "exec"), scope)  # noqa: S102
    assert [one.name for one in scope["found"].tried] == ["channels_last", "bf16"]
