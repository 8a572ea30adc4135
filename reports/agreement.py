"""Clinical agreement: bias, limits of agreement, and how often an error is too large."""

import math
from collections.abc import Iterator
from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.bland_altman import bland_altman_figure
from robustbench_med.reports.document import Evidence, Figure, Part, Section, Table
from robustbench_med.reports.forest import EVERYONE, Mark, Panel, forest, lines_of, pages
from robustbench_med.reports.probes_shown import called, clean_and_worst, under
from robustbench_med.reports.reclassified import reclassified
from robustbench_med.reports.wording import DASH, count, label, number

ENDS = ("loa_low", "loa_high")
READ = (
    "The bias is the mean of predicted minus true. Between the limits of agreement lie about 95% "
    "of the patients' errors: not the mean but the single patient is what they speak of. A small "
    "bias with wide limits is no good agreement."
)
COLUMNS = (
    "Group", "Under", "Patients", "Bias, 95% interval", "Lower limit, 95% interval",
    "Upper limit, 95% interval", "Beyond the tolerance, 95% interval", *estimate_rows.LOSSES,
    "Intervals by", "Note",
)  # fmt: skip


def agreement(evidence: Evidence) -> Section | None:
    """A part per metric that is best near zero, and the failures of all others; None without."""
    signed = [m for m in estimate_rows.declared(evidence) if _has_limits(evidence, m)]
    parts = [_part(evidence, metric, place) for place, metric in enumerate(signed, 1)]
    failing = [m for m in estimate_rows.compared(evidence) if m.endswith(estimate_rows.FAILURE)]
    failing = [m for m in failing if estimate_rows.base(evidence, m) not in signed]
    parts += [part for part in (_failures(evidence, failing), *reclassified(evidence)) if part]
    if not parts:
        return None
    return Section("agreement", "Clinical agreement", (READ,) if signed else (),
                   parts=tuple(parts))  # fmt: skip


def _has_limits(evidence: Evidence, metric: str) -> bool:
    return all(len(evidence.of_metric(f"{metric}.{end}")) for end in ENDS)


def _part(evidence: Evidence, metric: str, place: int) -> Part:
    drawn = bland_altman_figure(evidence, metric, f"agreement{place}-all")
    figures = [*([drawn] if drawn else []), *_figures(evidence, metric, f"agreement{place}")]
    return Part(estimate_rows.described(evidence, metric), (), (), tuple(figures))


def _figures(evidence: Evidence, metric: str, name: str) -> Iterator[Figure]:
    """Per probe a panel of biases with their limits of agreement, group by group."""
    probes = clean_and_worst(evidence, metric)
    table = evidence.of_metric(metric)
    chosen = table[table["probe"].isin(probes)]
    unit = estimate_rows.setting(evidence, metric, "unit")
    axis = f"{label(metric)}, {label(unit)}" if unit else label(metric)
    for page, part in enumerate(pages(chosen), 1):
        lines = lines_of(part)
        suffix = f", part {page}" if page > 1 else ""
        panels = [_panel(evidence, metric, probe, axis) for probe in probes]
        caption = (
            f"{label(metric)} by group{suffix}: the mark is the bias, the line reaches from the "
            "lower to the upper limit of agreement, between which about 95% of the patients' "
            "errors lie. It is no interval of the bias; those are in the table. Groups of fewer "
            "than 10 patients are not drawn."
        )
        alt = f"Bias and limits of agreement of {label(metric)} by group{suffix}."
        yield Figure(forest(f"{name}-{page}", lines, panels), caption, alt,
                     _table(evidence, metric, probes, set(lines), suffix))  # fmt: skip


def _panel(evidence: Evidence, metric: str, probe: str, axis: str) -> Panel:
    low, high = ({(r.subgroup, r.group): r.value for r in under(evidence, f"{metric}.{end}", probe)}
                 for end in ENDS)  # fmt: skip
    marks = {
        (str(row.subgroup), str(row.group)): Mark(
            math.nan if row.status == "suppressed" else row.value,
            low.get((row.subgroup, row.group), math.nan),
            high.get((row.subgroup, row.group), math.nan),
            "" if row.subgroup else EVERYONE,
            row.status == "not gated",
            side=count(row.patients),
        )
        for row in under(evidence, metric, probe)
    }
    return Panel(called(probe), axis, marks, 0.0, solid=True, side="n")


def _table(
    evidence: Evidence, metric: str, probes: list[str], lines: set[tuple[str, str]], suffix: str
) -> Table:
    rows = [
        _row(evidence, metric, row)
        for probe in probes
        for row in under(evidence, metric, probe)
        if (row.subgroup, row.group) in lines and row.status != "suppressed"
    ]
    tolerance = estimate_rows.setting(evidence, metric, "tolerance")
    said = f"; tolerance {number(abs(float(tolerance)))}" if tolerance else ""
    caption = f"Agreement of {label(metric)} by group{suffix}{said}; groups of 10 patients or more"
    return Table(caption, COLUMNS, tuple(rows), folded=True)


def _row(evidence: Evidence, metric: str, row: Any) -> tuple[str, ...]:  # noqa: ANN401
    made = [_same(evidence, f"{metric}.{name}", row) for name in (*ENDS, "failure")]
    methods = [each.method for each in (row, *made) if each is not None and each.method]
    return (
        estimate_rows.group_name(row),
        called(row.probe),
        count(row.patients),
        estimate_rows.valued(row),
        *(DASH if each is None else estimate_rows.valued(each) for each in made),
        *estimate_rows.losses(row),
        "; ".join(dict.fromkeys(label(method) for method in methods)) or DASH,
        estimate_rows.reason(row),
    )


def _same(evidence: Evidence, metric: str, row: Any) -> Any:  # noqa: ANN401
    """The row of another metric for the same probe and group; None without one."""
    rows = under(evidence, metric, row.probe)
    same = (each for each in rows if (each.subgroup, each.group) == (row.subgroup, row.group))
    return next(same, None)


def _failures(evidence: Evidence, failing: list[str]) -> Part | None:
    """How often what is not best near zero falls beyond its tolerance."""
    rows = tuple(
        (
            estimate_rows.group_name(row), label(row.metric), called(probe),
            *estimate_rows.cells(row), *estimate_rows.losses(row), estimate_rows.difference(row),
            estimate_rows.method(row), estimate_rows.reason(row),
        )
        for metric in failing
        for probe in clean_and_worst(evidence, metric)
        for row in under(evidence, metric, probe)
        if row.status != "suppressed"
    )  # fmt: skip
    if not rows:
        return None
    columns = ("Group", "Share", "Under", "Value", "95% interval", "Patients", "Cases",
               *estimate_rows.LOSSES, "Minus the others", "Interval by", "Note")  # fmt: skip
    said = "; ".join(estimate_rows.described(evidence, metric) for metric in failing)
    table = Table("Shares beyond a tolerance, groups of 10 patients or more", columns, rows,
                  folded=True)  # fmt: skip
    return Part("Shares beyond a declared tolerance", (f"{said}.",), (), (), (table,))
