"""Every metric under every probe, over all patients."""

from collections.abc import Iterator
from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import label

COLUMNS = (
    "Probe", "Kind", "Value", "95% interval", "Patients", "Cases", *estimate_rows.LOSSES,
    "Interval by", "Note",
)  # fmt: skip
READ = (
    (
        "An attacked value shows harm that was found; a stronger search may find more. So it"
        " is the most robustness that can still be claimed in that ball, never a guarantee: "
        "the harm is no less than shown. 'worst' takes, for each case, the worst of the "
        "clean image and of all attacks in the same ball, and only then averages."
    ),
    (
        "Cases: those with a value. Undefined: the metric has no value there, though nothing "
        "failed. Failed: the probe could not score the case. Both are left out of the value. "
        "Penalised: the value stands for one that could not be had, such as a missed structure."
    ),
)


def overall(evidence: Evidence) -> Section:
    """What matters most in one table; then one per metric, one for certificates."""
    tables = [_in_short(evidence), *(_table(evidence, m) for m in estimate_rows.declared(evidence))]
    tables += [table for table in (*_derived(evidence), _certificates(evidence)) if table.rows]
    return Section("overall", "Overall results", READ, (), tuple(tables))


def _in_short(evidence: Evidence) -> Table:
    found = [
        row
        for metric in estimate_rows.compared(evidence)
        for row in estimate_rows.overall(evidence, metric)
        if row.kind in ("clean", "worst")
    ]
    caption = "In short: clean images and worst cases, all patients"
    return _with_metric(caption, found, folded=False)


def _table(evidence: Evidence, metric: str) -> Table:
    found = estimate_rows.overall(evidence, metric)
    caption = f"{estimate_rows.described(evidence, metric)}, all patients, every probe"
    tones = tuple(estimate_rows.tone(row) for row in found)
    return Table(caption, COLUMNS, tuple(_row(row) for row in found), tones, folded=True)


def _derived(evidence: Evidence) -> Iterator[Table]:
    """What is made from each metric: failures, rates at a threshold, limits of agreement."""
    for metric in estimate_rows.declared(evidence):
        made = [m for m in estimate_rows.metrics(evidence)
                if m != metric and estimate_rows.base(evidence, m) == metric]  # fmt: skip
        found = [row for name in made for row in estimate_rows.overall(evidence, name)]
        yield _with_metric(f"Made from {label(metric)}, all patients, every probe", found)


def _certificates(evidence: Evidence) -> Table:
    table = evidence.estimates
    chosen = (table["kind"] == "certificate") & (table["subgroup"] == "")
    found = estimate_rows.listed(table[chosen])
    caption = "Certificates, all patients asked about. Undecided means not proved, not attackable"
    return _with_metric(caption, found)


def _with_metric(caption: str, found: list[Any], *, folded: bool = True) -> Table:
    rows = tuple((_row(row)[0], label(row.metric), *_row(row)[2:]) for row in found)
    columns = (COLUMNS[0], "Metric", *COLUMNS[2:])
    tones = tuple(estimate_rows.tone(row) for row in found)
    return Table(caption, columns, rows, tones, folded)


def _row(row: Any) -> tuple[str, ...]:  # noqa: ANN401
    return (
        label(row.probe),
        label(row.kind),
        *estimate_rows.cells(row),
        *estimate_rows.losses(row),
        estimate_rows.method(row),
        estimate_rows.reason(row),
    )
