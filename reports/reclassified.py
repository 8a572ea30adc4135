"""How often an error moves a patient across a limit that decides on treatment."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Part, Table
from robustbench_med.reports.probes_shown import under
from robustbench_med.reports.wording import DASH, interval, label, number
from robustbench_med.statistics.estimate import of_share
from robustbench_med.statistics.slices import EVERYONE, slices_of

WAYS = ("up", "down")
COLUMNS = (
    "Group", "Moved to another zone, 95% interval", "Moved up, 95% interval",
    "Moved down, 95% interval", "Patients", "Cases", *estimate_rows.LOSSES, "Intervals by", "Note",
)  # fmt: skip


def reclassified(evidence: Evidence) -> Iterator[Part]:
    """A part per metric that records up and down moves on clean images."""
    recorded = set(evidence.records["metric"])
    for metric in estimate_rows.declared(evidence):
        if all(f"{metric}.{way}" in recorded for way in WAYS):
            yield _part(evidence, metric)


def _part(evidence: Evidence, metric: str) -> Part:
    ways = {way: _shares(evidence, f"{metric}.{way}") for way in WAYS}
    rows = tuple(
        _row(row, ways) for row in under(evidence, metric, "clean") if row.status != "suppressed"
    )
    caption = f"{label(metric)} by group, clean images; groups of 10 patients or more"
    table = Table(caption, COLUMNS, rows, folded=len(rows) > 12)
    text = (
        "The share of patients whose predicted measure falls into another zone than the true one. "
        "Up and down may lead to different treatment, so they are told apart."
    )
    return Part(f"{label(metric)}: moved across a limit", (text,), (), (), (table,))


def _row(row: Any, ways: dict[str, dict[tuple[str, str], tuple[str, str]]]) -> tuple[str, ...]:  # noqa: ANN401
    parts = [ways[way].get((row.subgroup, row.group), (DASH, "")) for way in WAYS]
    methods = dict.fromkeys(label(name) for name in (row.method, *(m for _, m in parts)) if name)
    value, limits, patients, cases = estimate_rows.cells(row)
    return (
        estimate_rows.group_name(row), f"{value} {limits}", *(text for text, _ in parts), patients,
        cases, *estimate_rows.losses(row), "; ".join(methods) or DASH, estimate_rows.reason(row),
    )  # fmt: skip


def _shares(evidence: Evidence, part: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Value with interval, and its method, by subgroup and group."""
    records = evidence.records
    chosen = (records["metric"] == part) & (records["kind"] == "clean")
    known = records.loc[chosen, ["case_id", "value"]].dropna()
    cases = evidence.cases.merge(known, on="case_id")
    groups = [EVERYONE, *(g for columns in evidence.manifest["subgroups"]
                          for g in slices_of(cases, columns))]  # fmt: skip
    return {(g.subgroup, g.group): _share(cases[g.mask(cases)]) for g in groups}


def _share(cases: pd.DataFrame) -> tuple[str, str]:
    whose = pd.factorize(cases["patient_id"])[0]
    hits = np.bincount(whose, cases["value"].to_numpy(dtype=np.float64)).astype(np.float64)
    found = of_share(hits, np.bincount(whose).astype(np.float64))
    return f"{number(found.value)} {interval(found.low, found.high)}", found.method
