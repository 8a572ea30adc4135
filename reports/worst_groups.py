"""The worst group of each subgroup, corrected for having been picked as the worst."""

import math
from typing import Any

from robustbench_med.reports.document import Evidence, Part, Table
from robustbench_med.reports.probes_shown import called, clean_and_worst
from robustbench_med.reports.rows import compared, listed, method, valued
from robustbench_med.reports.standing import LEVEL
from robustbench_med.reports.wording import DASH, count, interval, label, number, p_value

COLUMNS = (
    "Subgroup", "Metric", "Under", "Worst group", "In words", "Its value, 95% interval", "Patients",
    "Corrected for having been picked", "Holds for all groups at once", "Do any differ?",
    "Best to worst", "Interval by",
)  # fmt: skip
READ = (
    (
        "Of several groups one always comes out worst, and it looks worse than it is, because the "
        "unluckiest is picked. The corrected value is pulled towards the other groups, the more so "
        "the less its own patients say. The interval that holds for all groups at once is right "
        "however the group was picked."
    ),
    (
        "'Do any differ?' is the p-value of 'no group differs from the others', each row by "
        "itself. The distance from best to worst is no evidence by itself: chance alone makes one."
    ),
)


def worst_groups(evidence: Evidence) -> Part | None:
    """One row per metric, probe and subgroup; None where no subgroup has two groups to compare."""
    rows = [
        row
        for metric in compared(evidence)
        for probe in clean_and_worst(evidence, metric)
        for row in listed(_of(evidence, metric, probe))
    ]
    if not rows:
        return None
    found = tuple(_row(evidence, row) for row in sorted(rows, key=lambda row: row.subgroup))
    table = Table("The worst group of each subgroup", COLUMNS, found)
    return Part("The worst group, corrected for having been picked", READ, (), (), (table,),
                folded=True)  # fmt: skip


def _of(evidence: Evidence, metric: str, probe: str) -> Any:  # noqa: ANN401
    table = evidence.gaps
    return table[(table["metric"] == metric) & (table["probe"] == probe)]


def _row(evidence: Evidence, gap: Any) -> tuple[str, ...]:  # noqa: ANN401
    table = evidence.estimates
    same = [table[name] == getattr(gap, name) for name in ("metric", "probe", "subgroup")]
    own = listed(table[same[0] & same[1] & same[2] & (table["group"] == gap.worst)])
    row = own[0] if own and own[0].status != "suppressed" else None
    by_chance = (
        f"{number(gap.range)}; chance alone makes about {number(gap.range_by_chance)}, "
        f"{p_value(gap.range_p)}"
    )
    return (
        label(gap.subgroup, 40),
        label(gap.metric),
        called(gap.probe),
        label(gap.worst, 40),
        _in_words(gap),
        valued(row) if row else DASH,
        count(row.patients) if row else DASH,
        number(gap.worst_corrected) if row else DASH,
        interval(gap.worst_low, gap.worst_high) if row else DASH,
        p_value(gap.p_any),
        DASH if math.isnan(gap.range) else by_chance,
        method(row) if row else DASH,
    )


def _in_words(gap: Any) -> str:  # noqa: ANN401
    worst = label(gap.worst, 40)
    if math.isnan(gap.p_any):
        return "these patients cannot tell whether the groups differ"
    if gap.p_any >= LEVEL:
        return f"no sign that the groups differ: of {gap.groups}, one always comes out worst"
    if math.isnan(gap.worst_corrected):
        return f"the groups differ; {worst} comes out worst"
    return (
        f"the groups differ; {worst} comes out worst, and its value is nearer "
        f"{number(gap.worst_corrected)} than {number(gap.worst_value)}"
    )
