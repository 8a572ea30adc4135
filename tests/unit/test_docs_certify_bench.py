"""The page's tables on the cost and closeness of certification are those of the stored run."""

import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "certify.json", ROOT / "docs" / "certify.md"
sys.path.append(str(ROOT / "benchmarks"))

from certify_parts import tables  # noqa: E402

TABLES = (
    tables.speed_table, tables.width_table, tables.width_cost_table, tables.branching_table,
    tables.checker_table, tables.memory_table,
)  # fmt: skip
stored_run = pytest.mark.skipif(not RESULT.is_file(), reason="no stored run of the benchmark")
MADE = {
    "speed": [
        {"image": image, "eps": eps, "pixels": 100, "certified": {"ladder": 90, "engine": 80},
         "seconds": {"ladder": 1.0 + image, "engine": 8.0, "checker": 0.5}, "looser_by": -1e-6,
         "tighter_by": 1e-3, "median_limit": 1.0, "compared": 10}
        for image in range(3)
        for eps in (1 / 255, 2 / 255)
    ],
    "widths": {
        "fcn": {
            "about": "1/255", "outputs": 3, "pgd": {"seconds": 2.0, "peak_mib": 300.0},
            "methods": {
                "ibp": {"ratios": [20.0, 123.4, 9.0], "seconds": 0.1, "peak_mib": 200.0},
                "crown": {"ratios": [1.0, 1.25, 1.5], "seconds": 0.2, "peak_mib": 210.0},
            },
        }
    },
    "branching": [
        {"eps": 0.06, "cases": 50, "falsified": 10, "search": 1.0,
         "certified": {"auto_lirpa_crown": 20, "crown": 20, "parts_50": 35},
         "seconds": {"auto_lirpa_crown": 3.0, "crown": 2.0, "parts_50": 10.0},
         "checker": {"crown": 1.0, "parts_50": 2.5}}
    ],
    "memory": {"digits": {"crown": {"before_mib": 200.4, "peak_mib": 250.6}}},
}  # fmt: skip


def stored():
    return json.loads(RESULT.read_text("utf-8"))


@stored_run
@pytest.mark.parametrize("table", TABLES)
def test_the_page_prints_the_table_of_the_stored_run(table):
    assert "\n".join(table(stored())) in PAGE.read_text("utf-8")


@stored_run
def test_in_the_stored_run_nothing_reached_lies_outside_what_is_certified():
    for row in stored()["widths"].values():
        for method in row["methods"].values():
            assert min(method["ratios"]) >= 1 - 1e-9


@stored_run
def test_in_the_stored_run_the_ladder_is_no_looser_and_certified_is_not_falsified():
    found = stored()
    assert max(row["looser_by"] for row in found["speed"]) < 1e-5  # float32 of the other
    for row in found["branching"]:
        assert max(row["certified"].values()) <= row["cases"] - row["falsified"]


@pytest.mark.parametrize("table", TABLES)
def test_every_line_of_a_table_has_as_many_cells_as_its_head(table):
    head, rule, *lines = table(MADE)
    assert lines
    assert all(line.count("|") == head.count("|") for line in (rule, *lines))


def test_the_factor_is_of_certified_pixels_a_second_and_its_median_is_over_images():
    # 90 pixels in 1, 2 and 3 seconds, against 80 in 8.
    assert tables.times(MADE) == pytest.approx([4.5, 4.5])
    cells = [cell.strip() for cell in tables.speed_table(MADE)[2].split("|")]
    assert cells[1:4] == ["1/255", "90.00 %", "80.00 %"]
    assert cells[7:10] == ["45", "10", "4.5"]
    assert math.isclose(float(cells[10]), round(90 / 2.5 / 10, 1))
    assert cells[11] == "0.0e+00"


def test_widths_are_shown_as_the_median_and_the_largest():
    assert tables.width_table(MADE)[2].endswith("| 20.0 (123) | 1.25 (1.50) |")


def test_accuracy_is_of_all_cases_and_at_most_what_the_search_left():
    line = tables.branching_table(MADE)[-1]
    assert line == "| 0.06 | branch and bound, 50 parts | 70.0 % | 80.0 % | 10.00 | 2.50 |"
    assert tables.checker_table(MADE)[-1].endswith("| 10.00 | 2.50 | 0.25 |")
