"""Every metric under every probe, over all patients."""

from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import label

COLUMNS = (
    "Probe", "Kind", "Value", "95% interval", "Patients", "Cases", "Undefined", "Failed",
    "Interval by", "Note",
)  # fmt: skip
CERTIFICATES = "certificates"


def overall(evidence: Evidence) -> Section:
    """One table per metric, one for certificates."""
    tables = [_table(evidence, metric) for metric in estimate_rows.metrics(evidence)]
    paragraphs = (
        (
            "An attacked value shows harm that was found; a stronger search may find more. So it"
            " is the most robustness that can still be claimed in that ball, never a guarantee: "
            "the harm is no less than shown. 'worst' takes, for each case, the worst of the "
            "clean image and of all attacks in the same ball, and only then averages."
        ),
        (
            "Cases: those with a value. Undefined: the metric has no value there, though nothing "
            "failed. Failed: the probe could not score the case. Both are left out of the value."
        ),
    )
    certified = _certificates(evidence)
    if certified.rows:
        tables.append(certified)
    return Section("overall", "Overall results", paragraphs, (), tuple(tables))


def _table(evidence: Evidence, metric: str) -> Table:
    found = estimate_rows.overall(evidence, metric)
    caption = f"{estimate_rows.described(evidence, metric)}, all patients"
    tones = tuple(estimate_rows.tone(row) for row in found)
    return Table(caption, COLUMNS, tuple(_row(row) for row in found), tones)


def _certificates(evidence: Evidence) -> Table:
    table = evidence.estimates
    chosen = (table["kind"] == "certificate") & (table["subgroup"] == "")
    found = estimate_rows.listed(table[chosen])
    rows = tuple((_row(row)[0], label(row.metric), *_row(row)[2:]) for row in found)
    columns = (COLUMNS[0], "Metric", *COLUMNS[2:])
    caption = "Certificates, all patients asked about. Undecided means not proved, not attackable"
    return Table(caption, columns, rows, tuple(estimate_rows.tone(row) for row in found))


def _row(row: Any) -> tuple[str, ...]:  # noqa: ANN401
    return (
        label(row.probe),
        label(row.kind),
        *estimate_rows.cells(row),
        *estimate_rows.losses(row),
        estimate_rows.method(row),
        estimate_rows.reason(row),
    )
