"""Invariant 4 of counts: no attack leaves a class more or fewer pixels than was proved."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

SLACK = 0.5  # of counts that are whole numbers


def contradicted_counts(records: pd.DataFrame, manifest: Mapping[str, Any]) -> list[str]:
    """Cases where an answer in an equal ball has a count that a certificate excludes, a line each.

    Args:
        records: Of the run: `least.K` and `most.K` of certificates, and `predicted` parts of
            metrics that make a patient's Dice, which are counts of a class's pixels.
        manifest: With `task`, `metrics` and `probes`.
    """
    classes = [str(name) for name in manifest["task"]["classes"] or ()]
    counted = {
        f"{metric}.predicted": classes.index(str(told["label"]))
        for metric, told in manifest["metrics"].items()
        if told["patient"] == "dice" and str(told.get("label")) in classes
    }
    balls = {probe["name"]: probe["ball"] for probe in manifest["probes"]}
    certificates = records[records["kind"] == "certificate"]
    answers = records[records["kind"].isin(["attack", "clean"])]
    found = []
    for metric, label in counted.items():
        seen = answers[answers["metric"] == metric]
        limits = [
            certificates[certificates["metric"] == f"{end}.{label}"] for end in ("least", "most")
        ]
        keys, names = ["probe", "case_id"], ("_least", "_most")
        proved = limits[0].merge(limits[1], on=keys, suffixes=names)
        pairs = proved.merge(seen, on="case_id", suffixes=("_proof", ""))
        same = pairs["probe_proof"].map(balls) == pairs["probe"].map(balls)
        low, high = pairs["value_least"] - SLACK, pairs["value_most"] + SLACK
        outside = (pairs["value"] < low) | (pairs["value"] > high)
        found += [
            f"case {row.case_id!r}: {row.probe_proof} proved {row.value_least:g} to "
            f"{row.value_most:g} pixels of {classes[label]}, but {row.probe} left {row.value:g}"
            for row in pairs[(same | (pairs["kind"] == "clean")) & outside].itertuples()
        ]
    return found
