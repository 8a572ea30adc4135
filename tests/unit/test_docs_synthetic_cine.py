"""Numbers on the page of simulated hearts are those of the code."""

import inspect
import re
from pathlib import Path

from robustbench_med.cohorts.synthetic_cine import synthetic_cine
from robustbench_med.physics.imaging import TEXTURE
from robustbench_med.physics.normal import CORRELATED, RANGES
from robustbench_med.physics.scanner import VENDORS

PAGE = (Path(__file__).parents[2] / "docs/synthetic_cine.md").read_text(encoding="utf-8")


def table(first):
    """Rows of cells of the table whose first heading is `first`."""
    block = PAGE[PAGE.index(f"\n| {first} |") :].strip().split("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()[2:]]


def test_every_setting_is_documented_and_no_other():
    told = [row[0].strip("`") for row in table("key")]
    assert told == list(inspect.signature(synthetic_cine).parameters)


def test_scanners_are_told_as_they_are():
    told = {row[0].strip("`"): [float(cell) for cell in row[1:]] for row in table("vendor")}
    assert told == {name: list(vars(vendor).values()) for name, vendor in VENDORS.items()}


def test_ranges_and_correlations_are_told_as_they_are():
    for name, *cells in table("what")[:7]:
        for sex, cell in zip("MF", cells, strict=True):
            assert RANGES[sex][name.split("`")[1]] == tuple(map(float, cell.split(" +- ")))
    told = {
        tuple(re.findall("`(.*?)`", pair)): float(value) for pair, value in table("correlation")
    }
    assert told == CORRELATED


def test_textures_are_told_as_they_are():
    (row,) = [row for row in PAGE.splitlines() if row.startswith("| texture, standard deviation")]
    pairs = re.findall(r"(\w+) ([\d.]+)", row.split("|")[2])
    assert {name: float(value) for name, value in pairs} == TEXTURE
