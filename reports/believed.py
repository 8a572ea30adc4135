"""A word beside every attack whose figure is not to be taken for robustness as it stands."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustbench_med.reports.wording import label

DOUBTED = ("unchecked", "suspect", "masked")
WIDTH = 60
"""Of a probe's name in a table, the word included."""


def doubts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Which probes and worst cases are `unchecked`, `suspect` or `masked`, by name."""
    said = manifest.get("validity") or {}
    return {p: entry["verdict"] for p, entry in said.items() if entry["verdict"] in DOUBTED}


def with_word(name: str, verdict: str) -> str:
    """The name with the verdict behind it, if that is a doubt: "pgd[linf<=0.1] (masked)"."""
    if verdict not in DOUBTED:
        return name
    return f"{label(name, WIDTH - len(verdict) - 3)} ({verdict})"


def spoken(table: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """The table, its doubted probes named with their word, so that none is printed without."""
    names = _names(manifest)
    return table.assign(probe=table["probe"].replace(names)) if names else table


def spoken_manifest(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest, its probes named as in `spoken`."""
    names = _names(manifest)
    if not names:
        return manifest
    probes = [{**p, "name": names.get(p["name"], p["name"])} for p in manifest["probes"]]
    validity = {names.get(name, name): entry for name, entry in manifest["validity"].items()}
    return {**manifest, "probes": probes, "validity": validity}


def _names(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {name: with_word(name, verdict) for name, verdict in doubts(manifest).items()}
