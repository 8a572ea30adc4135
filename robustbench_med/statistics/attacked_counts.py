"""Counts of a class's voxels under attack, and whether they keep to what is proved."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Counts = NDArray[np.int64]
LABELS = {"lv": 1, "myo": 2, "myocardium": 2, "rv": 3}
"""Names of classes, in small letters, by the label that `clinical` has for them."""
SLACK = 0.5


def attacked_counts(
    records: pd.DataFrame, manifest: Mapping[str, Any], probe: str
) -> dict[int, pd.DataFrame]:
    """Read counts under attacks in the certificate's ball.

    Args:
        records: Of the run.
        manifest: With `metrics` and `probes`.
        probe: Name of the certificate.

    Returns:
        By label of `clinical`, a row per case and a column per attack; NaN where it failed or was
        not asked.
    """
    balls = {entry["name"]: entry["ball"] for entry in manifest["probes"]}
    rivals = [
        entry["name"] for entry in manifest["probes"]
        if entry["kind"] == "attack" and entry["ball"] == balls[probe]
    ]  # fmt: skip
    rows = records[records["probe"].isin(rivals)]
    found: dict[int, pd.DataFrame] = {}
    for metric, told in manifest["metrics"].items():
        label = LABELS.get(str(told.get("label")).lower())
        # Only of metrics that make a patient's Dice are parts known to be voxels.
        part = rows[rows["metric"] == f"{metric}.predicted"]
        if label is not None and told["patient"] == "dice" and len(part):
            # Not a pivot table, which would drop an attack that failed on every case.
            found[label] = part.pivot(index="case_id", columns="probe", values="value")  # noqa: PD010
    return found


def reached_counts(
    attacked: Mapping[int, pd.DataFrame], slices: pd.Series, proved: Counts, answered: Counts
) -> tuple[Counts | None, int]:
    """Find the fewest and the most voxels that any attack left, slice by slice.

    Args:
        attacked: See `attacked_counts`.
        slices: `(s,)`, ids of cases.
        proved: `(s, 4, 2)`, fewest and most by the certificates.
        answered: `(s, 4, 2)`, of the images as they are, twice.

    Returns:
        `(s, 4, 2)`, the images as they are counted too, or None where not every slice has a
        count under attack; and how many counts lie outside what is proved.
    """
    counts, outside, whole = answered.copy(), 0, bool(attacked)
    for label, tried in attacked.items():
        seen = tried.reindex(slices).to_numpy()
        low, high = proved[:, label, :1], proved[:, label, 1:]
        outside += int(((seen < low - SLACK) | (seen > high + SLACK)).sum())
        if np.isnan(seen).all(axis=1).any():
            whole = False
            continue
        every = np.concatenate([answered[:, label, :1], seen], axis=1)
        ends = np.fmin.reduce(every, axis=1), np.fmax.reduce(every, axis=1)
        counts[:, label] = np.stack(ends, axis=1)
    return (counts if whole else None), outside
