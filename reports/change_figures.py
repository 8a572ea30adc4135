"""What a probe changes, group by group: words, figures and tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Figure, Table
from robustbench_med.reports.forest import (
    EVERYONE,
    Line,
    Mark,
    Panel,
    forest,
    lines_of,
    pages,
    value_panel,
)
from robustbench_med.reports.group_findings import headline
from robustbench_med.reports.probes_shown import called, under
from robustbench_med.reports.sandwich import SCORE
from robustbench_med.reports.standing import (
    FOUND,
    Families,
    Word,
    changing,
    findable_change,
    margin,
)
from robustbench_med.reports.wording import DASH, FEW, count, interval, label, number, p_value

COLUMNS = (
    "Group", "Probe", "Patients", "Value, 95% interval", "Change, 95% interval",
    "Change of the others", "Difference of the changes, 95% interval", "Corrected p",
    "Could have been found", "Says", *estimate_rows.LOSSES, "Interval of the value by",
    "Interval of the change by", "Note",
)  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """What one probe changes in every group.

    Attributes:
        metric: Name.
        probe: Name.
        groups: Rows of the table of estimates, each with a word.
        tests: Comparisons corrected for together.
    """

    metric: str
    probe: str
    groups: tuple[tuple[Any, Word], ...]
    tests: int

    @property
    def found(self) -> list[tuple[Any, Word]]:
        """The groups for which a reader should stop."""
        return [(row, word) for row, word in self.groups if word in FOUND]


def changed(evidence: Evidence, families: Families, metric: str, probe: str) -> Changed:
    """Say of every group whether a probe does more to it than to all others."""
    rows = [row for row in under(evidence, metric, probe) if row.subgroup]
    tests = families.size(rows, "interaction_p_holm")
    limit = margin(evidence, metric)
    return Changed(metric, probe, tuple((r, changing(r, limit, tests)) for r in rows), tests)


def summed_up(shown: Sequence[Changed]) -> str:
    """How many groups stand out under each probe."""
    return headline([(view.probe, len(view.found), view.tests) for view in shown])


def change(row: Any) -> str:  # noqa: ANN401
    """Probe minus clean, with its interval."""
    limits = interval(row.change_low, row.change_high)
    return number(row.change) if limits == DASH else f"{number(row.change)} {limits}"


def interaction(row: Any) -> str:  # noqa: ANN401
    """The change minus that of all others, with its interval."""
    limits = interval(row.interaction_low, row.interaction_high)
    return number(row.interaction) if limits == DASH else f"{number(row.interaction)} {limits}"


def change_figures(evidence: Evidence, shown: Sequence[Changed], name: str) -> Iterator[Figure]:
    """Clean values, what each probe changes, and for a share of right answers what is proved."""
    metric = shown[0].metric
    table = evidence.of_metric(metric)
    chosen = table[(table["kind"] == "clean") | table["probe"].isin([v.probe for v in shown])]
    told = estimate_rows.described(evidence, metric)
    for page, part in enumerate(pages(chosen), 1):
        suffix = f", part {page}" if page > 1 else ""
        lines = lines_of(part)
        clean = value_panel("clean images", metric, part[part["kind"] == "clean"], {})
        panels = [clean, *(_panel(view, part) for view in shown), *_proved(evidence, metric)]
        caption = (
            f"{told}{suffix}: clean values by group, then the change from them, with 95% "
            "intervals. The dashed line is all patients. Marked are groups that change otherwise "
            "than all others. Groups of fewer than 10 patients are not drawn."
        )
        alt = f"Changes of {label(metric)} by group{suffix}. {summed_up(shown)}."
        caption_of_table = f"{told}{suffix}: changes by group"
        yield Figure(
            forest(f"{name}-{page}", lines, panels), caption, alt,
            _table(caption_of_table, part, shown),
        )  # fmt: skip


def _panel(view: Changed, part: pd.DataFrame) -> Panel:
    words = {(str(row.subgroup), str(row.group)): word for row, word in view.groups}
    rows = estimate_rows.listed(part[part["probe"] == view.probe])
    marks = {(str(row.subgroup), str(row.group)): _mark(row, words) for row in rows}
    everyone = next((row.change for row in rows if not row.subgroup), math.nan)
    return Panel(called(view.probe), f"change of {view.metric}", marks, everyone)


def _mark(row: Any, words: Mapping[Line, Word]) -> Mark:  # noqa: ANN401
    word = words.get((str(row.subgroup), str(row.group)))
    shown = EVERYONE if word is None else str(word)
    side = shown if shown in FOUND else ""
    hollow = row.status == "not gated"
    return Mark(row.change, row.change_low, row.change_high, shown, hollow, side=side)


def _proved(evidence: Evidence, metric: str) -> Iterator[Panel]:
    table = evidence.of_metric("certified")
    if metric == SCORE and len(table):
        probe = table["probe"].iloc[0]
        yield value_panel(f"proved: {probe}", "share proved", table[table["probe"] == probe], {})


def _table(caption: str, part: pd.DataFrame, shown: Sequence[Changed]) -> Table:
    views = {view.probe: view for view in shown}
    rows = [row for row in estimate_rows.listed(part) if row.probe in views]
    kept = [row for row in rows if row.status != "suppressed"]
    found = tuple(_row(row, views[row.probe]) for row in kept)
    tones = tuple(estimate_rows.tone(row) for row in kept)
    few = "" if len(kept) == len(rows) else f"; groups of fewer than {FEW} patients are left out"
    return Table(f"{caption}{few}", COLUMNS, found, tones, folded=True)


def _row(row: Any, view: Changed) -> tuple[str, ...]:  # noqa: ANN401
    words = {(r.subgroup, r.group): word for r, word in view.groups}
    return (
        estimate_rows.group_name(row),
        label(row.probe),
        count(row.patients),
        estimate_rows.valued(row),
        change(row),
        number(row.change - row.interaction),
        interaction(row),
        p_value(row.interaction_p_holm),
        number(findable_change(row, view.tests)),
        words.get((row.subgroup, row.group), DASH),
        *estimate_rows.losses(row),
        estimate_rows.method(row),
        label(row.change_method) if row.change_method else DASH,
        estimate_rows.reason(row),
    )
