"""The page's shares of false alarms and of hidden models found are those of the stored panels."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "panel_alarms.py"))
STORED = json.loads((ROOT / "benchmarks" / "results" / "panel_alarms.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "attack.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("### How often a panel is wrong") :].split("\n## ")[0]
ROWS = [row for rows in STORED["seeds"].values() for row in rows]


@pytest.mark.parametrize("hides", [False, True])
def test_the_page_prints_the_table_of_the_stored_panels(hides):
    assert "\n".join(SCRIPT["table"](STORED, hides=hides)) in SECTION


def test_the_page_says_how_many_trainings_and_in_which_balls():
    assert f"{len(STORED['seeds'])} trainings" in SECTION
    assert all(f"`{ball}`" in SECTION for ball in STORED["balls"])


def test_each_training_asked_of_five_honest_models_and_of_three_tricks():
    for rows in STORED["seeds"].values():
        assert [row["hides"] for row in rows] == 5 * [False] + 3 * [True]
        assert len({row["norm"] for row in rows}) == 1


def test_enough_cases_withstood_for_an_alarm_to_be_possible():
    honest = [row for row in ROWS if not row["hides"]]
    assert all(row["n"] == SCRIPT["CASES"] for row in honest)
    assert sum(row["withstood"] > 0.1 for row in honest) > 0.5 * len(honest)


def test_a_share_of_nothing_in_sixty_is_below_one_in_sixteen():
    assert SCRIPT["share"](0, 60) == "0 of 60 [0.000, 0.060]"
    assert SCRIPT["share"](60, 60) == "60 of 60 [0.940, 1.000]"


def test_a_verdict_other_than_valid_is_a_flag():
    base = {"hides": False, "spoke": []}
    rows = [
        {**base, "model": "a", "verdict": "valid"},
        {**base, "model": "a", "verdict": "suspect", "spoke": ["seed"]},
        {**base, "model": "b", "verdict": "masked", "spoke": ["seed", "planted"]},
    ]
    lines = SCRIPT["table"]({"seeds": {"0": rows}}, hides=False)
    assert lines[0].startswith("| a | 1 of 2 [")
    assert lines[0].endswith("| 0 of 2 [0.000, 0.842] | `seed` |")
    assert lines[2].startswith("| all | 2 of 3 [")
    assert lines[2].endswith("| `planted`, `seed` |")


def test_the_hidden_models_that_are_called_valid_are_those_that_the_page_names():
    missed = [row for row in ROWS if row["hides"] and row["verdict"] == "valid"]
    for row in missed:
        assert (row["model"], row["norm"]) == ("x + 0.01 sin(500 x)", "l2")
        assert row["withstood"] - row["at_most"] <= 4 / 64
