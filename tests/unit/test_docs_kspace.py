"""The figures on the page of reference systems about lines of k-space are the stored ones."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "systems.md").read_text("utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "kspace_lines.json"
STORED = json.loads(RESULTS.read_text("utf-8"))
TITLES = {
    "serial": "serial", "tuned": "fine-tuned", "synnet": "SynNet", "linet": "LI-Net",
}  # fmt: skip
LINES = (1, 2, 4, 8, 16, 32)


def estimate(found, digits):
    if found["value"] is None:
        return "undefined"
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def row(key):
    """One line of the page's table: of a system and a number of lines."""
    system, lines = key.split()
    found = STORED["results"][key]
    known = found["lvef_error"]["patients"]
    cells = (
        TITLES[system], lines, estimate(found["lvef_error"], 1),
        f"{known:.0f} of {found['tested']}",
        *(estimate(found[f"dice_{name}"], 3) for name in ("lv", "myo", "rv")),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def gap(key):
    """One line of the page's table of differences from the serial pipeline."""
    system, lines = key.split()
    found = STORED["against_serial"][key]
    return f"| {TITLES[system]} | {lines} | {estimate(found, 1)} | {found['patients']} |"


def test_every_system_was_tested_with_every_number_of_lines():
    assert set(STORED["results"]) == {f"{system} {n}" for system in TITLES for n in LINES}


@pytest.mark.parametrize("key", list(STORED["results"]))
def test_the_page_prints_what_was_reached_with_so_many_lines(key):
    assert row(key) in PAGE


@pytest.mark.parametrize("key", list(STORED["against_serial"]))
def test_the_page_prints_the_differences_from_the_serial_pipeline(key):
    assert gap(key) in PAGE


def test_the_figure_is_on_the_page():
    assert "figures/kspace_lines.svg" in PAGE
    assert (ROOT / "docs" / "figures" / "kspace_lines.svg").is_file()
