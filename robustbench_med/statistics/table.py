"""The table of estimates: what the reports print and the gate judges."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from robustbench_med.statistics.bootstrap import generator
from robustbench_med.statistics.comparison import Difference, difference
from robustbench_med.statistics.estimate import Estimate
from robustbench_med.statistics.reading import asked_cases, read_scores
from robustbench_med.statistics.samples import Sample, sample
from robustbench_med.statistics.scores import Flags, Scores
from robustbench_med.statistics.slices import EVERYONE, Slice, slices_of
from robustbench_med.statistics.worst import with_worst

SHOWN_FROM = 10
GATED_FROM = 30

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
        ("status", pa.string()),
        ("rest_value", pa.float64()),
        ("rest_patients", pa.int64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("difference_method", pa.string()),
    ]
)

Row = dict[str, object]
NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, "")


def estimate_run(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> pd.DataFrame:
    """Estimate every probe, metric and group of a run.

    Args:
        records: `case_id, probe, kind, level, metric, value`.
        cases: `case_id, patient_id, split`, then attributes.
        failures: `case_id, probe, kind, error, message`.
        manifest: With `seed`, `metrics`, `probes` and `subgroups`.

    Returns:
        One row per probe, metric and group, with the columns of `ESTIMATES`; see
        docs/estimate.md. The order of the input rows does not matter.

    Raises:
        InputError: If a subgroup is no attribute, or the tables do not belong together.
        IntegrityError: If a case has two values of one metric under one probe.
    """
    cases = asked_cases(records, cases, failures)
    groups = [s for columns in manifest["subgroups"] for s in slices_of(cases, columns)]
    scores = [with_worst(found) for found in read_scores(records, cases, failures, manifest)]
    rows: list[Row] = []
    for group in [EVERYONE, *groups] if len(cases) else []:
        rows += _rows_of(group, cases, scores, int(manifest["seed"]))
    order = {entry["name"]: place for place, entry in enumerate(manifest["probes"])}
    rows.sort(key=lambda row: (order.get(str(row["probe"]), len(order)), str(row["probe"])))
    table: pd.DataFrame = pa.Table.from_pylist(rows, ESTIMATES).to_pandas()
    return table


def to_arrow(estimates: pd.DataFrame) -> pa.Table:
    """Turn the table of estimates into what `estimates.parquet` holds; NaN becomes null."""
    return pa.Table.from_pandas(
        estimates, ESTIMATES, preserve_index=False
    ).replace_schema_metadata()


def status_of(estimate: Estimate) -> str:
    """Say how far an estimate may be used, from the number of patients behind it."""
    if math.isnan(estimate.value):
        return "undefined"
    if estimate.patients < SHOWN_FROM:
        return "suppressed"
    if math.isnan(estimate.low):
        return "no interval"
    return "not gated" if estimate.patients < GATED_FROM else "ok"


def _rows_of(group: Slice, cases: pd.DataFrame, scores: Sequence[Scores], seed: int) -> list[Row]:
    patient_ids = cases["patient_id"].to_numpy(dtype=object)
    chosen = group.mask(cases)
    own = sample(scores, patient_ids, chosen, generator(seed, _name(cases, chosen)))
    rest = None
    if all(len(set(patient_ids[part])) >= SHOWN_FROM for part in (chosen, ~chosen)):
        rest = sample(scores, patient_ids, ~chosen, generator(seed, _name(cases, ~chosen)))
    columns = [(found, probe) for found in scores for probe in found.probes]
    return [
        {
            "probe": probe.name,
            "kind": probe.kind,
            "level": probe.level,
            "metric": found.metric,
            "better": found.better,
            "subgroup": group.subgroup,
            "group": group.group,
            **_own(own, column),
            **_against(own, rest, column),
        }
        for column, (found, probe) in enumerate(columns)
    ]


def _name(cases: pd.DataFrame, chosen: Flags) -> str:
    """Seed by the cases themselves: the same cases get the same draws by whatever way chosen."""
    return "" if chosen.all() else "\x1f".join(cases.loc[chosen, "case_id"])


def _own(own: Sample, column: int) -> Row:
    estimate = own.estimates[column]
    status = status_of(estimate)
    hidden = status == "suppressed"
    return {
        "value": math.nan if hidden else estimate.value,
        "low": math.nan if hidden else estimate.low,
        "high": math.nan if hidden else estimate.high,
        "method": "" if hidden else estimate.method,
        "patients": estimate.patients,
        "cases": int(own.cases[column]),
        "undefined": estimate.undefined,
        "failed": int(own.failed[column]),
        "status": status,
    }


def _against(own: Sample, rest: Sample | None, column: int) -> Row:
    estimate, other, found = own.estimates[column], None, NO_DIFFERENCE
    if rest is not None and estimate.patients >= SHOWN_FROM:
        other = rest.estimates[column]
        other = other if other.patients >= SHOWN_FROM else None
    if rest is not None and other is not None:
        found = difference(estimate, other, own.draws[:, column], rest.draws[:, column])
    return {
        "rest_value": other.value if other else math.nan,
        "rest_patients": other.patients if other else None,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "difference_method": found.method,
    }
