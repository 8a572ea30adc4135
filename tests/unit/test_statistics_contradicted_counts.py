"""Counts under attack are held against what a certificate allows, in its own ball only."""

import pandas as pd
import pytest

from robustbench_med.statistics.contradicted_counts import contradicted_counts

BALL, OTHER = "linf<=0.01", "linf<=0.02"
MANIFEST = {
    "task": {"classes": ["background", "lv"]},
    "metrics": {"dice_lv": {"patient": "dice", "label": "lv"},
                "volume": {"patient": "mean", "label": "lv"}},
    "probes": [
        {"name": "clean", "ball": None}, {"name": "crown", "ball": BALL},
        {"name": "pgd", "ball": BALL}, {"name": "far", "ball": OTHER},
    ],
}  # fmt: skip
PROVED = [("crown", "certificate", "a", "least.1", 10), ("crown", "certificate", "a", "most.1", 14)]


def said(*answers):
    columns = ["probe", "kind", "case_id", "metric", "value"]
    return contradicted_counts(pd.DataFrame([*PROVED, *answers], columns=columns), MANIFEST)


@pytest.mark.parametrize("count", [10, 12, 14])
def test_counts_within_the_limits_contradict_nothing(count):
    assert said(("pgd", "attack", "a", "dice_lv.predicted", count)) == []


@pytest.mark.parametrize(("name", "kind"), [("pgd", "attack"), ("clean", "clean")])
@pytest.mark.parametrize("count", [9, 15])
def test_one_pixel_outside_is_told_with_all_three_numbers(name, kind, count):
    assert said((name, kind, "a", "dice_lv.predicted", count)) == [
        f"case 'a': crown proved 10 to 14 pixels of lv, but {name} left {count}"
    ]


def test_another_ball_case_or_measure_says_nothing_of_it():
    assert said(
        ("far", "attack", "a", "dice_lv.predicted", 0),
        ("pgd", "attack", "b", "dice_lv.predicted", 0),
        ("pgd", "attack", "a", "volume.predicted", 0), ("pgd", "attack", "a", "dice_lv", 0.2),
        ("pgd", "attack", "a", "dice_lv.predicted", float("nan")),
    ) == []  # fmt: skip
