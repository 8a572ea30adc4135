"""Picks rows from the table of estimates and says in words what a row cannot say in numbers."""

from typing import Any

import pandas as pd

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.wording import (
    DASH,
    FEW,
    count,
    interval,
    label,
    number,
    people,
    plain_count,
)

DIRECTIONS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "zero": "best near zero",
    "one": "best near one",
}
FAILURE = ".failure"


def listed(table: pd.DataFrame) -> list[Any]:
    """Rows as named tuples."""
    return list(table.itertuples())


def metrics(evidence: Evidence) -> list[str]:
    """Metrics of the model's output and what is made from them, in the table's order."""
    table = evidence.estimates
    return list(dict.fromkeys(table.loc[table["kind"] != "certificate", "metric"]))


def declared(evidence: Evidence) -> list[str]:
    """Metrics of the plan, without what is made from them; certificates have their own."""
    return [name for name in metrics(evidence) if base(evidence, name) == name]


def compared(evidence: Evidence) -> list[str]:
    """Metrics of the plan and the shares beyond their tolerances: what groups are held by."""
    known = declared(evidence)
    return [m for m in metrics(evidence) if m in known or m.endswith(FAILURE)]


def base(evidence: Evidence, metric: str) -> str:
    """The declared metric that a figure is made from; itself if it is one."""
    known = evidence.manifest["metrics"]
    if metric in known or "." not in metric:
        return metric
    return base(evidence, metric.rpartition(".")[0])


def setting(evidence: Evidence, metric: str, name: str) -> Any:  # noqa: ANN401
    """What the manifest says of the metric behind a figure; None if nothing."""
    return evidence.manifest["metrics"].get(base(evidence, metric), {}).get(name)


def overall(evidence: Evidence, metric: str) -> list[Any]:
    """Rows of one metric over all patients, in the table's order."""
    return list(evidence.of_everyone.get(metric, ()))


def clean(rows: list[Any]) -> Any:  # noqa: ANN401
    """The row of the clean images, None where there is none."""
    return next((row for row in rows if row.kind == "clean"), None)


def described(evidence: Evidence, metric: str) -> str:
    """The metric with its unit, direction, and how a patient's value is made."""
    if metric.endswith(FAILURE):
        return _failing(evidence, metric)
    spec = evidence.manifest["metrics"].get(metric, {})
    unit = f", in {label(spec['unit'])}" if spec.get("unit") else ""
    way = DIRECTIONS.get(better(evidence, metric), "")
    patient = spec.get("patient")
    by = f"; cases to patients by {label(patient)}" if patient and patient != "mean" else ""
    return f"{label(metric)}{unit} ({way}{by})" if way else f"{label(metric)}{unit}"


def better(evidence: Evidence, metric: str) -> str:
    """What a good value is, as the table has it."""
    found = evidence.of_metric(metric)["better"]
    return str(found.iloc[0]) if len(found) else ""


def _failing(evidence: Evidence, metric: str) -> str:
    of = base(evidence, metric)
    beyond = {"higher": "below", "lower": "above"}.get(
        str(setting(evidence, of, "better")), "farther off than"
    )
    unit = setting(evidence, of, "unit")
    limit = number(abs(float(setting(evidence, of, "tolerance") or 0)))
    said = f"{limit} {label(unit)}" if unit else limit
    return f"{label(metric)}: share with {label(of)} {beyond} {said} (lower is better)"


def cells(row: Any) -> tuple[str, str, str, str]:  # noqa: ANN401 (a row of the table)
    """Value, interval, patients and cases, with an en dash for what is not shown."""
    if row.status == "suppressed":
        return DASH, DASH, count(row.patients), DASH
    shown = number(row.value), interval(row.low, row.high)
    return *shown, count(row.patients), count(row.cases)


def valued(row: Any) -> str:  # noqa: ANN401
    """Value and interval in one text."""
    value, limits, _, _ = cells(row)
    return value if limits == DASH else f"{value} {limits}"


def named_value(row: Any) -> str:  # noqa: ANN401
    """Value, interval and patients in one text."""
    return f"{valued(row)} {people(row.patients)}"


def losses(row: Any) -> tuple[str, str, str]:  # noqa: ANN401
    """Undefined, failed and penalised cases; of a suppressed group, nothing."""
    if row.status == "suppressed":
        return DASH, DASH, DASH
    return plain_count(row.undefined), plain_count(row.failed), plain_count(row.penalised)


LOSSES = ("Undefined", "Failed", "Penalised")
"""Headings of `losses`."""


def lost(row: Any) -> str:  # noqa: ANN401
    """`losses` in one text: "3 undefined, 1 failed", or "none"."""
    if row.status == "suppressed":
        return DASH
    named = zip(losses(row), LOSSES, strict=True)
    return ", ".join(f"{n} {name.lower()}" for n, name in named if n not in ("0", DASH)) or "none"


def reason(row: Any) -> str:  # noqa: ANN401
    """Why a number is missing or not gated; an en dash where all is well."""
    return label(row.reason, 120) if row.reason else DASH


def method(row: Any) -> str:  # noqa: ANN401
    """How the interval was made."""
    return label(row.method) if row.method else DASH


def group_name(row: Any) -> str:  # noqa: ANN401
    """Subgroup and group on one line."""
    return f"{label(row.subgroup, 40)}: {label(row.group, 40)}" if row.subgroup else "all patients"


def difference(row: Any) -> str:  # noqa: ANN401
    """Difference from the rest with its interval; nothing that tells of fewer than ten patients."""
    few_in_rest = bool(pd.isna(row.rest_patients)) or row.rest_patients < FEW
    if row.status == "suppressed" or few_in_rest or pd.isna(row.difference):
        return DASH
    limits = interval(row.difference_low, row.difference_high)
    return number(row.difference) if limits == DASH else f"{number(row.difference)} {limits}"


def tone(row: Any) -> str:  # noqa: ANN401
    """Rows that are not evidence by themselves are muted."""
    return "" if row.status == "ok" else "muted"
