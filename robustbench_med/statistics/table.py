"""The table of estimates: what the reports print and the gate judges."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from robustbench_med.statistics.comparison import NO_DIFFERENCE, Difference
from robustbench_med.statistics.estimate import Estimate
from robustbench_med.statistics.families import Adjusted, adjust
from robustbench_med.statistics.groups import GroupFindings
from robustbench_med.statistics.power import detectable_difference
from robustbench_med.statistics.rest import SHOWN_FROM
from robustbench_med.statistics.strangers import bounds_of
from robustbench_med.statistics.study import Study, findings_of, open_study

GATED_FROM = 30
ANY_FROM = 20
UNDEFINED = "no case has a value"
FEW = f"fewer than {SHOWN_FROM} patients: not shown"
FEW_IN_ALL = f"fewer than {ANY_FROM} patients in all: not shown"
NO_INTERVAL = "no interval: too few patients differ, or a value is infinite"
SPARSE = f"{SHOWN_FROM} to {GATED_FROM - 1} patients: not gated"
SIDE = "patients with, or without, what is counted"
ONE_SIDED = {
    FEW: f"fewer than {SHOWN_FROM} {SIDE}: not shown",
    SPARSE: f"{SHOWN_FROM} to {GATED_FROM - 1} {SIDE}: not gated",
}
"""Reasons of figures that rest on some of a group's patients only."""

ESTIMATES = pa.schema(
    [
        ("probe", pa.string()),
        ("kind", pa.string()),
        ("level", pa.float64()),
        ("metric", pa.string()),
        ("better", pa.string()),
        ("subgroup", pa.string()),
        ("group", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("method", pa.string()),
        ("patients", pa.int64()),
        ("cases", pa.int64()),
        ("undefined", pa.int64()),
        ("failed", pa.int64()),
        ("penalised", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("validity", pa.string()),
        ("rest_value", pa.float64()),
        ("rest_patients", pa.int64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("difference_method", pa.string()),
        ("p", pa.float64()),
        ("p_holm", pa.float64()),
        ("p_joint", pa.float64()),
        ("detectable", pa.float64()),
        ("change", pa.float64()),
        ("change_low", pa.float64()),
        ("change_high", pa.float64()),
        ("change_method", pa.string()),
        ("interaction", pa.float64()),
        ("interaction_low", pa.float64()),
        ("interaction_high", pa.float64()),
        ("interaction_p", pa.float64()),
        ("interaction_p_holm", pa.float64()),
        ("bound_low", pa.float64()),
        ("bound_high", pa.float64()),
    ]
)

Row = dict[str, object]


def estimate_run(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> pd.DataFrame:
    """Estimate every probe, metric and group of a run.

    Arguments and errors as for `open_study`; also `InputError` if a subgroup is no attribute.

    Returns:
        One row per probe, metric and group, with the columns of `ESTIMATES`; see
        docs/estimate.md. The order of the input rows does not matter.
    """
    study = open_study(records, cases, failures, manifest)
    return estimates_of(study, findings_of(study, manifest["subgroups"]))


def estimates_of(study: Study, findings: Sequence[GroupFindings]) -> pd.DataFrame:
    """Make the table from what was found in everyone and in each declared group."""
    rows: list[Row] = []
    if findings:
        adjusted = adjust(study, findings)
        for place, found in enumerate(findings):
            rows += _rows_of(study, found, adjusted, place)
    order = {name: place for place, name in enumerate(study.probes)}
    rows.sort(key=lambda row: (order.get(str(row["probe"]), len(order)), str(row["probe"])))
    table: pd.DataFrame = pa.Table.from_pylist(rows, ESTIMATES).to_pandas()
    return table


def to_arrow(table: pd.DataFrame, schema: pa.Schema = ESTIMATES) -> pa.Table:
    """Turn a table into what its parquet file holds; NaN becomes null."""
    return pa.Table.from_pandas(table, schema, preserve_index=False).replace_schema_metadata()


def status_of(value: float, low: float, deciding: int, in_all: int) -> tuple[str, str]:
    """Say how far an estimate may be used, and why not farther.

    Args:
        value: NaN if nothing was defined.
        low: Its lower limit, NaN without an interval.
        deciding: Patients by whose number it is shown; see `Portion`.
        in_all: Patients of the whole run.
    """
    few = deciding < SHOWN_FROM
    rules = (
        ("undefined", UNDEFINED, math.isnan(value) and (not few or not deciding)),
        ("suppressed", FEW, few),
        ("suppressed", FEW_IN_ALL, in_all < ANY_FROM),
        ("no interval", NO_INTERVAL, math.isnan(low)),
        ("not gated", SPARSE, deciding < GATED_FROM),
        ("ok", "", True),
    )
    return next((status, reason) for status, reason, holds in rules if holds)


def _rows_of(study: Study, found: GroupFindings, adjusted: Adjusted, place: int) -> list[Row]:
    bounds = bounds_of(study, found)
    return [
        {
            "probe": probe.name,
            "kind": probe.kind,
            "level": probe.level,
            "metric": reading.metric,
            "better": reading.better,
            "subgroup": found.group.subgroup,
            "group": found.group.group,
            **_own(found, column, study.patients),
            "validity": study.validity.get(probe.name, ""),
            **_against(found, column, study.patients),
            **_corrected(found, adjusted, place, column, study.patients),
            **_bounds(found, column, study.patients, bounds),
        }
        for column, (reading, probe) in enumerate(study.columns)
    ]


def _hidden(found: GroupFindings, column: int, in_all: int) -> bool:
    return int(found.deciding[column]) < SHOWN_FROM or in_all < ANY_FROM


def _own(found: GroupFindings, column: int, in_all: int) -> Row:
    estimate = found.estimates[column]
    deciding = int(found.deciding[column])
    status, reason = status_of(estimate.value, estimate.low, deciding, in_all)
    if found.patients[column] >= (SHOWN_FROM if reason == FEW else GATED_FROM):
        reason = ONE_SIDED.get(reason, reason)
    hidden = status in ("suppressed", "undefined")
    shown = Estimate(math.nan, math.nan, math.nan, "") if hidden else estimate
    change = NO_DIFFERENCE if hidden else found.changes[column]
    cases, undefined, failed, penalised = (int(n) for n in found.counts[:, column])
    return {
        "value": shown.value,
        "low": shown.low,
        "high": shown.high,
        "method": shown.method,
        "patients": int(found.patients[column]),
        "cases": cases,
        "undefined": undefined,
        "failed": failed,
        "penalised": penalised,
        "status": status,
        "reason": reason,
        **_interval("change", change),
        "change_method": change.method,
    }


def _against(found: GroupFindings, column: int, in_all: int) -> Row:
    shown = bool(found.compared[column]) and in_all >= ANY_FROM
    gap = found.gap if shown else None
    difference = gap.differences[column] if gap else NO_DIFFERENCE
    return {
        "rest_value": gap.rest.estimates[column].value if gap else math.nan,
        "rest_patients": int(gap.rest.portion.patients[column]) if gap else None,
        **_interval("difference", difference),
        "difference_method": difference.method,
        "p": difference.p,
    }


def _corrected(
    found: GroupFindings, adjusted: Adjusted, place: int, column: int, in_all: int
) -> Row:
    tested = in_all >= ANY_FROM and not np.isnan(adjusted.holm[place, column])
    gap = found.gap if tested else None
    interaction = found.interactions[column] if gap else NO_DIFFERENCE
    tests = int(adjusted.tests[column])
    error = gap.differences[column].error if gap else math.nan
    return {
        "p_holm": adjusted.holm[place, column] if gap else math.nan,
        "p_joint": adjusted.joint[place, column] if gap else math.nan,
        "detectable": detectable_difference(error, tests) if gap else math.nan,
        **_interval("interaction", interaction),
        "interaction_p": interaction.p,
        "interaction_p_holm": adjusted.interaction[place, column] if gap else math.nan,
    }


def _bounds(found: GroupFindings, column: int, in_all: int, bounds: np.ndarray) -> Row:
    hidden = _hidden(found, column, in_all)
    low, high = (math.nan, math.nan) if hidden else bounds[:, column].tolist()
    return {"bound_low": low, "bound_high": high}


def _interval(name: str, difference: Difference) -> Row:
    return {
        name: difference.value,
        f"{name}_low": difference.low,
        f"{name}_high": difference.high,
    }
