"""Picks rows from the table of estimates and says in words what a row cannot say in numbers."""

from typing import Any

import pandas as pd

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.wording import DASH, count, interval, label, number, plain_count

REASONS = {
    "ok": "",
    "not gated": "10 to 29 patients: not gated",
    "suppressed": "fewer than 10 patients: not shown",
    "undefined": "no case has a value",
    "no interval": "no interval: the patients show no spread, or a value is infinite",
}
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "zero": "best near zero"}


def listed(table: pd.DataFrame) -> list[Any]:
    """Rows as named tuples."""
    return list(table.itertuples())


def metrics(evidence: Evidence) -> list[str]:
    """Metrics of the model's output, in the table's order; certificates have their own."""
    table = evidence.estimates
    return list(dict.fromkeys(table.loc[table["kind"] != "certificate", "metric"]))


def overall(evidence: Evidence, metric: str) -> list[Any]:
    """Rows of one metric over all patients, in the table's order."""
    table = evidence.estimates
    return listed(table[(table["metric"] == metric) & (table["subgroup"] == "")])


def clean(rows: list[Any]) -> Any:  # noqa: ANN401
    """The row of the clean images, None where there is none."""
    return next((row for row in rows if row.kind == "clean"), None)


def described(evidence: Evidence, metric: str) -> str:
    """The metric with its unit, direction, and how a patient's value is made."""
    spec = evidence.manifest["metrics"].get(metric, {})
    unit = f", in {label(spec['unit'])}" if spec.get("unit") else ""
    way = DIRECTIONS.get(str(spec.get("better")), "")
    patient = spec.get("patient")
    by = f"; cases to patients by {label(patient)}" if patient and patient != "mean" else ""
    return f"{label(metric)}{unit} ({way}{by})" if way else f"{label(metric)}{unit}"


def cells(row: Any) -> tuple[str, str, str, str]:  # noqa: ANN401 (a row of the table)
    """Value, interval, patients and cases, with an en dash for what is not shown."""
    if row.status == "suppressed":
        return DASH, DASH, count(row.patients), DASH
    shown = number(row.value), interval(row.low, row.high)
    return *shown, count(row.patients), count(row.cases)


def losses(row: Any) -> tuple[str, str]:  # noqa: ANN401
    """Undefined and failed cases; of a suppressed group, nothing."""
    if row.status == "suppressed":
        return DASH, DASH
    return plain_count(row.undefined), plain_count(row.failed)


def reason(row: Any) -> str:  # noqa: ANN401
    """Why a number is missing or not gated; an en dash where all is well."""
    return REASONS.get(row.status, label(row.status)) or DASH


def method(row: Any) -> str:  # noqa: ANN401
    """How the interval was made."""
    return label(row.method) if row.method else DASH


def group_name(row: Any) -> str:  # noqa: ANN401
    """Subgroup and group on one line."""
    return f"{label(row.subgroup, 40)}: {label(row.group, 40)}" if row.subgroup else "all patients"


def difference(row: Any) -> tuple[str, str]:  # noqa: ANN401
    """Difference from the rest and its interval; nothing that tells of fewer than ten patients."""
    few_in_rest = bool(pd.isna(row.rest_patients)) or row.rest_patients < 10
    if row.status == "suppressed" or few_in_rest:
        return DASH, DASH
    return number(row.difference), interval(row.difference_low, row.difference_high)


def tone(row: Any) -> str:  # noqa: ANN401
    """Rows that are not evidence by themselves are muted."""
    return "" if row.status == "ok" else "muted"
