"""The demonstration's tables name no attack that is not to be believed without its word."""

from types import SimpleNamespace

import pandas as pd

from robustbench_med.demo.stages import STAGES, measures_table, stages_tables

BALL = "[l2<=0.02]"


def a_run(*metrics):
    shared = {"subgroup": "", "status": "ok", "value": 0.5, "low": 0.4, "high": 0.6, "patients": 64}
    probes = (
        ("clean", "clean", ""), (f"pgd{BALL}", "attack", "masked"),
        (f"worst{BALL}", "worst", "masked"), ("rician@2", "shift", ""),
    )  # fmt: skip
    rows = [
        {**shared, "probe": probe, "kind": kind, "validity": word, "metric": metric}
        for probe, kind, word in probes
        for metric in metrics
    ]
    return SimpleNamespace(estimates=pd.DataFrame(rows))


def cells(tables):
    return [cell for table in tables for row in table.rows for cell in row if BALL in cell]


def test_measures_and_diagnoses_carry_the_word():
    found = cells(measures_table(a_run("lvef", "diagnosis")))
    assert found == [f"pgd{BALL} (masked)", f"worst{BALL} (masked)"] * 2


def test_stages_carry_the_word():
    runs = {name: a_run("dice_lv", "correct", "ssim") for _, name, _ in STAGES}
    found = cells(stages_tables(runs))
    assert found
    assert set(found) == {f"pgd{BALL} (masked)"}
