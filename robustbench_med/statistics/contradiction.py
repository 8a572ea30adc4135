"""Invariant 4: what was proved is not broken. Proofs held against attacks, case by case."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

SLACK = 1e-6  # shares of pixels are float32 quotients
STATISTICAL = ("smoothing",)
ERRORS = (
    "python:robustbench_med.metrics.nmse:Nmse",
    "python:robustbench_med.metrics.nmse_complex:NmseComplex",
)
MOVING = "python:robustbench_med.engine.moving_reference:_Moving"
# Inference in float32 moves an image, by such a share of the reference's norm, and so its error.
MOVED = 1e-5


def contradictions(records: pd.DataFrame, manifest: Mapping[str, Any]) -> list[str]:
    """Cases whose proof an attack in an equal ball, or the clean image, contradicts, a line each.

    A case proved to keep its true class must be correct under every attack; a segmentation's
    share of correct pixels under attack must be at least its certified share; and no image may
    have a larger NMSE than is proved to be the largest.

    Args:
        records: The run's records: `correct` and every NMSE of attacks, `certified` and
            `nmse_limit` of proofs.
        manifest: Its probes say which ball each is about, and what they are made of.
    """
    return [*_answers(records, manifest), *_images(records, manifest)]


def _answers(records: pd.DataFrame, manifest: Mapping[str, Any]) -> Iterator[str]:
    pairs = _pairs(records, manifest, "certified", records[records["metric"] == "correct"])
    for row in pairs[pairs["value_attack"] < pairs["value_proof"] - SLACK].itertuples():
        yield (
            f"case {row.case_id!r}: {row.probe_proof} proved {row.value_proof:.6g}, "
            f"but {row.probe_attack} left {row.value_attack:.6g} correct"
        )


def _images(records: pd.DataFrame, manifest: Mapping[str, Any]) -> Iterator[str]:
    measured = {(probe["name"], name) for probe in manifest["probes"] for name in _errors(probe)}
    pairs = zip(records["probe"], records["metric"], strict=True)
    tried = records[np.array([pair in measured for pair in pairs], dtype=np.bool_)]
    found = _pairs(records, manifest, "nmse_limit", tried)
    most = (np.sqrt(found["value_proof"]) * (1 + SLACK) + MOVED) ** 2
    for row in found[found["value_attack"] > most].itertuples():
        yield (
            f"case {row.case_id!r}: {row.probe_proof} proved an NMSE of at most "
            f"{row.value_proof:.6g}, but {row.probe_attack} reached {row.value_attack:.6g} "
            f"({row.metric_attack})"
        )


def _errors(probe: Mapping[str, Any]) -> list[str]:
    """Names of a probe's metrics that are an NMSE to the case's own reference.

    Whatever name a plan gave them. Where the reference moves, another error is measured.
    """
    settings = probe.get("settings") or {}
    if settings.get("type") == MOVING:
        return []
    metrics = settings.get("metrics") or {}
    return [
        name
        for name, made in metrics.items()
        if isinstance(made, Mapping) and made.get("type") in ERRORS
    ]


def _pairs(
    records: pd.DataFrame, manifest: Mapping[str, Any], proved: str, tried: pd.DataFrame
) -> pd.DataFrame:
    """Each proof beside what the same case came to, clean and in an equal ball."""
    balls = {probe["name"]: probe["ball"] for probe in manifest["probes"]}
    proofs = records[
        (records["kind"] == "certificate")
        & (records["metric"] == proved)
        & ~records["probe"].str.startswith(STATISTICAL)
    ]
    attacks = tried[tried["kind"].isin(["attack", "clean"])]
    pairs = proofs.merge(attacks, on="case_id", suffixes=("_proof", "_attack"))
    same = pairs["probe_proof"].map(balls) == pairs["probe_attack"].map(balls)
    return pairs[same | (pairs["kind_attack"] == "clean")]
