"""The measured figures on the page of statistics are those of the stored benchmark."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "statistics.json").read_text("utf-8"))
SETTINGS = RESULTS["settings"].values()
PAGE = (ROOT / "docs" / "statistics.md").read_text("utf-8")


def rows(first):
    """Cells of the table whose head begins with `first`."""
    lines = iter(PAGE.splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    found = []
    while (line := next(lines, "")).startswith("|"):
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_page_prints_the_measured_coverage():
    table = PAGE[PAGE.index("| values | patients |") :]
    measured = [entry for entry in SETTINGS if "coverage" in entry]
    assert len(measured) == 32
    for entry in measured:
        images = f"{entry['images']} ({entry['icc']:g})"
        beside = f"{entry['image_level']:.3f}" if "image_level" in entry else ""
        line = f"| {entry['patients']} | {images} | {entry['coverage']:.3f} | {beside} |"
        assert line in table, line


@pytest.mark.parametrize("entry", [e for e in SETTINGS if "holm" in e], ids=lambda e: str(e["gap"]))
def test_the_page_prints_the_measured_false_alarms_and_power(entry):
    gap = f"{entry['gap']:.2f}" if entry["gap"] else "none"
    figures = [entry[name] for name in ("uncorrected", "holm", "max_t", "row_bootstrap_of_range")]
    shown = [f"{figure:.3f}" for figure in figures]
    images = f"{entry['images']} ({entry['icc']:g})"
    assert [gap, str(entry["patients"]), images, *shown] in rows("gap")


def test_the_measured_figures_keep_what_is_claimed():
    for entry in SETTINGS:
        if "coverage" in entry:
            least = 0.93 if entry["patients"] >= 100 else 0.91
            assert entry["coverage"] >= least, entry
            assert entry["coverage"] <= 0.97 or entry["patients"] < 100, entry
        elif not entry["gap"]:
            assert entry["holm"] <= 0.06, entry
            assert entry["max_t"] <= 0.06, entry
    assert all(entry["repeats"] == 10_000 for entry in SETTINGS)
    assert len(SETTINGS) == 39
    assert RESULTS["seconds"] < 3600
