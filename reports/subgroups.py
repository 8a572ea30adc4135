"""For whom it works worse: every group, clean and in the worst case."""

from typing import Any

import pandas as pd

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Figure, Section, Table
from robustbench_med.reports.forest import PANELS, forest, pages
from robustbench_med.reports.wording import harm, label

COLUMNS = (
    "Group", "Probe", "Value", "95% interval", "Patients", "Cases", "Undefined", "Failed",
    "Minus the rest", "95% interval", "Interval by", "Note",
)  # fmt: skip
EVERY = "each of these"
WORST_SHOWN = 5


def subgroups(evidence: Evidence) -> Section:
    """A forest plot and its table per metric, then the groups farthest behind the rest."""
    if not evidence.manifest["subgroups"]:
        return Section("subgroups", "Subgroups", ("The plan names no subgroups.",))
    paragraphs = (
        (
            "Each group is compared with all other patients, never with the best group: a gap "
            "between best and worst is above zero even where there is none. 'Not recorded' is a "
            "group like any other. Intervals are not widened for the number of groups: among many "
            "groups, some differ by chance."
        ),
        (
            "Groups of fewer than 10 patients are not shown; those of 10 to 29 are drawn hollow "
            "and not gated by default."
        ),
    )
    figures = tuple(
        figure
        for number, metric in enumerate(estimate_rows.metrics(evidence), 1)
        for figure in _figures(evidence, metric, number)
    )
    return Section("subgroups", "Subgroups", paragraphs, figures, (_behind(evidence),))


def _figures(evidence: Evidence, metric: str, number: int) -> list[Figure]:
    chosen = _side_by_side(evidence, metric)
    name = estimate_rows.described(evidence, metric)
    probes = list(dict.fromkeys(chosen["probe"]))
    found = []
    for page, part in enumerate(pages(chosen), 1):
        suffix = f", part {page}" if page > 1 else ""
        caption = (
            f"{name} by subgroup{suffix}: value and 95% interval. The dashed line is the value "
            "of all patients; numbers at the right are patients."
        )
        table = _table(f"{name} by subgroup{suffix}", part)
        svg = forest(f"forest{number}-{page}", part, metric)
        found.append(Figure(svg, caption, _alt(metric, probes), table))
    return found


def _side_by_side(evidence: Evidence, metric: str) -> pd.DataFrame:
    """Clean and worst cases: of many balls the least, the middle and the greatest."""
    table = evidence.estimates[evidence.estimates["metric"] == metric]
    worst = list(dict.fromkeys(table.loc[table["kind"] == "worst", "probe"]))
    if len(worst) > PANELS - 1:
        worst = [worst[0], worst[len(worst) // 2], worst[-1]]
    return table[(table["kind"] == "clean") | table["probe"].isin(worst)]


def _alt(metric: str, probes: list[str]) -> str:
    shown = ", ".join(label(probe) for probe in probes)
    return f"Forest plot of {label(metric)} by subgroup under {shown}. The table holds its numbers."


def _table(caption: str, part: pd.DataFrame) -> Table:
    found = _once_if_hidden(estimate_rows.listed(part))
    tones = tuple(estimate_rows.tone(row) for row in found)
    return Table(caption, COLUMNS, tuple(_row(row) for row in found), tones)


def _once_if_hidden(rows: list[Any]) -> list[Any]:
    """Leave one row of each group that is suppressed under every probe."""
    shown = {(row.subgroup, row.group) for row in rows if row.status != "suppressed"}
    kept: dict[tuple[str, ...], Any] = {}
    for row in rows:
        group = (row.subgroup, row.group)
        name = row.probe if group in shown else EVERY
        kept.setdefault((*group, name), row._replace(probe=name))
    return list(kept.values())


def _row(row: Any) -> tuple[str, ...]:  # noqa: ANN401
    return (
        estimate_rows.group_name(row),
        label(row.probe),
        *estimate_rows.cells(row),
        *estimate_rows.losses(row),
        *estimate_rows.difference(row),
        estimate_rows.method(row),
        estimate_rows.reason(row),
    )


def farthest_behind(evidence: Evidence, shown: int = WORST_SHOWN) -> list[Any]:
    """Rows of the groups most behind the rest, per metric, clean and in the worst case."""
    table = evidence.estimates
    kept = table["status"].isin(["ok", "not gated"]) & table["difference"].notna()
    table = table[kept & table["kind"].isin(["clean", "worst"]) & (table["subgroup"] != "")]
    found: list[Any] = []
    for metric in estimate_rows.metrics(evidence):
        rows = estimate_rows.listed(table[table["metric"] == metric])
        rows.sort(key=lambda row: -harm(row.difference, row.better))
        found += rows[:shown]
    return found


def _behind(evidence: Evidence) -> Table:
    rows = tuple((label(row.metric), *_row(row)) for row in farthest_behind(evidence))
    caption = (
        f"The {WORST_SHOWN} groups farthest behind the rest, per metric. Picked because they are "
        "extreme, so they look worse than they are: a reason to look, not a finding"
    )
    return Table(caption, ("Metric", *COLUMNS), rows)
