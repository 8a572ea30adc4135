"""The page's table of certified ejection fractions is that of the stored run."""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "certify.md").read_text("utf-8")
ROWS = json.loads((ROOT / "benchmarks" / "results" / "ejection_fraction.json").read_text("utf-8"))
sys.path.append(str(ROOT / "benchmarks"))

from ejection_parts.shown import at, radii, table, widths  # noqa: E402


def test_the_page_prints_the_table_of_the_stored_run():
    assert "\n".join(table(ROWS["rows"])) in PAGE


def test_no_attack_left_the_certified_limits():
    for row in ROWS["rows"]:
        assert row["certified"][0] <= row["attacked"][0] <= row["clean"]
        assert row["clean"] <= row["attacked"][1] <= row["certified"][1]


def test_at_the_smallest_radius_limits_are_at_most_half_as_wide_again_as_what_is_reached():
    rows = at(ROWS["rows"], radii(ROWS["rows"])[0])
    certified, attacked = np.median(widths(rows), axis=1)
    assert certified <= 1.5 * attacked
    assert np.mean([row["pixels"] for row in rows]) >= 0.9


def test_a_ratio_is_that_of_the_medians():
    rows = [
        {"eps": 1 / 255, "patient": str(n), "pixels": 0.5, "certified": [0, 3 * n],
         "attacked": [0, n]}
        for n in (1, 2, 7)
    ]  # fmt: skip
    assert table(rows)[-1].endswith("| 50.0% | 6.00 [3.00, 21.00] | 2.00 [1.00, 7.00] "
                                    "| 3.00 [3.00, 3.00] |")  # fmt: skip
