"""The search for the worst group that can be described, corrected for having searched."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.probes_shown import called, clean_and_worst
from robustbench_med.reports.standing import LEVEL
from robustbench_med.reports.wording import DASH, count, harm, interval, label, number

SHOWN = 5
COLUMNS = (
    "Group", "Metric", "Under", "In words", "Patients", "Value, 95% interval", "All others",
    "Difference, 95% interval", "Groups searched",
)  # fmt: skip


@dataclass(frozen=True)
class Searched:
    """What was searched under one metric and one probe.

    Attributes:
        metric: Name.
        probe: Name.
        rows: Of the table of searches, the most unlikely first; at least one.
    """

    metric: str
    probe: str
    rows: tuple[Any, ...]

    @property
    def worst(self) -> Any:  # noqa: ANN401
        """The most unlikely of the groups that do worse than all others; None without one."""
        return next((row for row in self.rows if is_worse(row)), None)


def search(evidence: Evidence) -> Section | None:
    """The worst group found under each metric; None where the plan explores nothing."""
    attributes = evidence.manifest.get("explore") or []
    if not attributes:
        return None
    found = [
        searched
        for metric in estimate_rows.compared(evidence)
        for probe in clean_and_worst(evidence, metric)
        if (searched := _searched(evidence, metric, probe)).rows
    ]
    named = ", ".join(label(name, 40) for name in attributes)
    paragraphs = (
        (
            f"Among the values of {named}, and every two of them at once, each group of at least "
            "20 patients was held against all others, whether or not anybody asked for it. Whoever "
            "searches finds: the worst of many looks bad though nothing is wrong."
        ),
        (
            "'By chance alone' therefore says how often a search as wide as this one, among "
            "patients who do not differ, turns up any group as far from the others. Only below "
            "5% is a group a finding; above, it is at most a reason to look again with other "
            "patients. Each row is a search of its own: of twenty, one finds something by chance. "
            "Intervals are made as for the declared groups, and are not widened for the search."
        ),
    )
    if not found:
        none = "No group was large enough to be searched."
        return Section("search", "Search for worse groups", (*paragraphs, none))
    tones = tuple("warning" if _is_finding(searched.worst) else "" for searched in found)
    worst = tuple(_row(searched, searched.worst) for searched in found)
    top = tuple(_row(searched, row) for searched in found for row in searched.rows[:SHOWN])
    caption = f"The {SHOWN} most unlikely groups of each search, worse or better"
    tables = (
        Table("The worst group of each search", COLUMNS, worst, tones),
        Table(caption, COLUMNS, top, folded=True),
    )
    return Section("search", "Search for worse groups", paragraphs, (), tables)


def is_worse(row: Any) -> bool:  # noqa: ANN401
    """Whether a group does worse than all others, as far as its value tells."""
    return bool(harm(row.value, row.better) > harm(row.rest_value, row.better))


def _is_finding(row: Any) -> bool:  # noqa: ANN401
    return row is not None and bool(row.p_joint < LEVEL)


def _searched(evidence: Evidence, metric: str, probe: str) -> Searched:
    table = evidence.search
    part: pd.DataFrame = table[(table["metric"] == metric) & (table["probe"] == probe)]
    ordered = part.sort_values(["p_joint", "p"], kind="stable")
    return Searched(metric, probe, tuple(estimate_rows.listed(ordered)))


def _row(searched: Searched, row: Any) -> tuple[str, ...]:  # noqa: ANN401
    named = label(searched.metric), called(searched.probe)
    size = str(int(searched.rows[0].searched))
    if row is None:
        nothing = "no searched group does worse than all others"
        return "none", *named, nothing, DASH, DASH, DASH, DASH, size
    return (
        estimate_rows.group_name(row),
        *named,
        _in_words(row),
        count(row.patients),
        f"{number(row.value)} {interval(row.low, row.high)}",
        number(row.rest_value),
        f"{number(row.difference)} {interval(row.difference_low, row.difference_high)}",
        size,
    )


def _in_words(row: Any) -> str:  # noqa: ANN401
    often = f"{row.p_joint:.1%}"
    if row.p_joint < 0.001 or 0.0495 <= row.p_joint < LEVEL:
        often = "less than 0.1%" if row.p_joint < 0.001 else "less than 5%"
    said = f"chance alone makes a group this far off in {often} of such searches"
    way = "worse" if is_worse(row) else "better"
    return f"{said}: a finding, {way}" if _is_finding(row) else f"{said}: no finding"
