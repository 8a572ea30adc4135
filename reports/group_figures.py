"""Forest plots and tables of groups: values, and differences from all other patients."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Figure, Table
from robustbench_med.reports.forest import Line, Mark, Panel, forest, lines_of, pages, value_panel
from robustbench_med.reports.group_findings import Compared, headline
from robustbench_med.reports.probes_shown import called
from robustbench_med.reports.wording import DASH, label, number, p_value, people

COLUMNS = (
    "Group", "Probe", "Value", "95% interval", "Patients", "Other patients",
    "Difference, 95% interval", "Corrected p", "Could have been found", "Says", "Cases",
    *estimate_rows.LOSSES, "Interval by", "Difference by", "Note",
)  # fmt: skip
EVERY = "each of these"
QUIET = ("no difference found", "too few", "no value")
"""Words that a drawing leaves to its legend."""


def summed_up(views: Sequence[Compared]) -> str:
    """How many groups stand out under each probe."""
    return headline([(view.probe, len(view.found), view.tests) for view in views])


def group_figures(evidence: Evidence, views: Sequence[Compared], name: str) -> Iterator[Figure]:
    """One figure per page of groups, all views of one metric side by side.

    Args:
        evidence: The run.
        views: Of one metric, at least one.
        name: Of the drawing, unique in the report.
    """
    metric = views[0].metric
    table = evidence.of_metric(metric)
    chosen = table[table["probe"].isin([view.probe for view in views])]
    told = estimate_rows.described(evidence, metric)
    for page, part in enumerate(pages(chosen), 1):
        suffix = f", part {page}" if page > 1 else ""
        panels = [
            panel for view in views for panel in _panels(view, part[part["probe"] == view.probe])
        ]
        caption = (
            f"{told} by subgroup{suffix}: value, and difference from all other patients, with 95% "
            "intervals. The dashed line is the value of all patients. In the pale band around no "
            "difference a gap is too small to have been found in that group. Groups of fewer than "
            "10 patients are not drawn."
        )
        alt = f"Forest plot of {label(metric)} by subgroup{suffix}. {summed_up(views)}."
        shown = _table(f"{told} by subgroup{suffix}", part, views)
        svg = forest(f"{name}-{page}", lines_of(part), panels)
        yield Figure(svg, caption, alt, shown)


def _panels(view: Compared, rows: pd.DataFrame) -> tuple[Panel, Panel]:
    words = {(str(row.subgroup), str(row.group)): word for row, word in view.groups}
    values = value_panel(called(view.probe), view.metric, rows, words)
    gaps = {(str(row.subgroup), str(row.group)): _gap(row, words) for row in
            estimate_rows.listed(rows)}  # fmt: skip
    return values, Panel("minus the others", "difference", gaps, 0.0, solid=True)


def _gap(row: Any, words: Mapping[Line, str]) -> Mark:  # noqa: ANN401
    word = words.get((str(row.subgroup), str(row.group)), "")
    hidden = estimate_rows.difference(row) == DASH
    return Mark(
        math.nan if hidden else row.difference,
        row.difference_low,
        row.difference_high,
        word,
        row.status == "not gated",
        row.detectable,
        side=word if word not in QUIET else "",
    )


def _table(caption: str, part: pd.DataFrame, views: Sequence[Compared]) -> Table:
    by_probe = {view.probe: view for view in views}
    found = _once_if_hidden(estimate_rows.listed(part))
    tones = tuple(estimate_rows.tone(row) for row in found)
    rows = tuple(_row(row, by_probe.get(row.probe)) for row in found)
    return Table(caption, COLUMNS, rows, tones, folded=True)


def _once_if_hidden(rows: list[Any]) -> list[Any]:
    """Leave one row of each group that is suppressed under every probe."""
    shown = {(row.subgroup, row.group) for row in rows if row.status != "suppressed"}
    kept: dict[tuple[str, ...], Any] = {}
    for row in rows:
        group = (row.subgroup, row.group)
        name = row.probe if group in shown else EVERY
        kept.setdefault((*group, name), row._replace(probe=name))
    return list(kept.values())


def _row(row: Any, view: Compared | None) -> tuple[str, ...]:  # noqa: ANN401
    value, limits, patients, cases = estimate_rows.cells(row)
    gap = estimate_rows.difference(row)
    rest = DASH if gap == DASH else f"{number(row.rest_value)} {people(row.rest_patients)}"
    return (
        estimate_rows.group_name(row),
        label(row.probe),
        value,
        limits,
        patients,
        rest,
        gap,
        p_value(row.p_holm),
        number(row.detectable),
        (view.word(row) if view else "too few") or DASH,
        cases,
        *estimate_rows.losses(row),
        estimate_rows.method(row),
        label(row.difference_method) if row.difference_method and gap != DASH else DASH,
        estimate_rows.reason(row),
    )
