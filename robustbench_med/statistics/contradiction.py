"""Invariant 4: what was proved is not broken. Proofs held against attacks, case by case."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

SLACK = 1e-6  # shares of pixels are float32 quotients
STATISTICAL = ("smoothing",)


def contradictions(records: pd.DataFrame, manifest: Mapping[str, Any]) -> list[str]:
    """Cases whose proof an attack in an equal ball contradicts, a line each.

    A case proved to keep its true class must be correct under every attack; a segmentation's
    share of correct pixels under attack must be at least its certified share.

    Args:
        records: The run's records, with metric `correct` for attacks, `certified` for proofs.
        manifest: Its probes say which ball each is about.
    """
    balls = {probe["name"]: probe["ball"] for probe in manifest["probes"]}
    proofs = records[
        (records["kind"] == "certificate")
        & (records["metric"] == "certified")
        & ~records["probe"].str.startswith(STATISTICAL)
    ]
    attacks = records[records["kind"].isin(["attack", "clean"]) & (records["metric"] == "correct")]
    pairs = proofs.merge(attacks, on="case_id", suffixes=("_proof", "_attack"))
    same = pairs["probe_proof"].map(balls) == pairs["probe_attack"].map(balls)
    inside = same | (pairs["kind_attack"] == "clean")
    broken = pairs[inside & (pairs["value_attack"] < pairs["value_proof"] - SLACK)]
    return [
        f"case {row.case_id!r}: {row.probe_proof} proved {row.value_proof:.6g}, "
        f"but {row.probe_attack} left {row.value_attack:.6g} correct"
        for row in broken.itertuples()
    ]
