"""Rates at a fixed threshold, as tables by group."""

from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.case_scores import CaseScores
from robustbench_med.reports.document import Evidence, Table
from robustbench_med.reports.probes_shown import called, clean_worst_and_shift, under
from robustbench_med.reports.wording import DASH, count, label, p_value
from robustbench_med.statistics.slices import EVERYONE, slices_of

RATES = ("sensitivity", "specificity", "ppv", "npv")
NAMES = {
    "sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV",
    "auc": "AUC",
}  # fmt: skip
JUDGED = ("sensitivity", "specificity", "auc")
"""What groups are held by; the predictive values also differ with how common the finding is."""
OPEN_UP_TO = 30
"""Groups beyond which the table is folded."""


def detections(evidence: Evidence) -> list[str]:
    """The plan's metrics that are detections."""
    return [
        metric
        for metric in estimate_rows.declared(evidence)
        if estimate_rows.setting(evidence, metric, "reads") == "detection"
    ]


def judged_figures(evidence: Evidence) -> list[str]:
    """Rates and areas that groups are held by, of every detection."""
    found = [f"{metric}.{name}" for metric in detections(evidence) for name in JUDGED]
    return [metric for metric in found if len(evidence.of_metric(metric))]


def rates(
    evidence: Evidence, metric: str, scores: CaseScores | None,
    lines: set[tuple[str, str]], suffix: str,
) -> Table:  # fmt: skip
    """Rates and AUC of the drawn groups on clean images, with who stands behind them."""
    shown = [name for name in (*RATES, "auc") if len(evidence.of_metric(f"{metric}.{name}"))]
    rows = {
        name: {(r.subgroup, r.group): r for r in under(evidence, f"{metric}.{name}", "clean")}
        for name in shown
    }
    both = _with_and_without(evidence, scores)
    found = []
    for row in under(evidence, metric, "clean"):
        group = (row.subgroup, row.group)
        if group in lines and row.status != "suppressed":
            own = [each for each in (rows[name].get(group) for name in shown) if each is not None]
            found.append((
                estimate_rows.group_name(row), *both.get(group, (DASH, DASH)),
                *(estimate_rows.valued(each) for each in own), estimate_rows.lost(row),
                _methods(own),
            ))  # fmt: skip
    columns = ("Group", "Patients with", "Without", *(NAMES[n] for n in shown), "Left out",
               "Intervals by")  # fmt: skip
    caption = (
        f"{label(metric)} at the operating point, clean images{suffix}, with 95% intervals; an en "
        "dash where fewer than 10 patients are counted"
    )
    return Table(caption, columns, tuple(found), folded=len(found) > OPEN_UP_TO)


def _methods(rows: list[Any]) -> str:
    return "; ".join(dict.fromkeys(label(row.method) for row in rows if row.method)) or DASH


def _with_and_without(
    evidence: Evidence, scores: CaseScores | None
) -> dict[tuple[str, str], tuple[str, str]]:
    """Patients with and without the finding by group; fewer than ten are not told apart."""
    if scores is None:
        return {}
    groups = [EVERYONE, *(g for columns in evidence.manifest["subgroups"]
                          for g in slices_of(scores.cases, columns))]  # fmt: skip
    sides = {(g.subgroup, g.group): scores.of(g).patients for g in groups}
    return {group: (count(with_it), count(without)) for group, (with_it, without) in sides.items()}


def under_stress(evidence: Evidence, metric: str) -> tuple[Table, ...]:
    """The same figures in the worst case and under the hardest shift, all patients and groups."""
    probes = clean_worst_and_shift(evidence, metric)[1:]
    rows = tuple(
        (
            NAMES[name], estimate_rows.group_name(row), called(probe), *estimate_rows.cells(row),
            *estimate_rows.losses(row), estimate_rows.difference(row), p_value(row.p_holm),
            estimate_rows.method(row), estimate_rows.reason(row),
        )
        for probe in probes
        for name in (*RATES, "auc")
        for row in under(evidence, f"{metric}.{name}", probe)
        if row.status != "suppressed"
    )  # fmt: skip
    columns = ("Figure", "Group", "Under", "Value", "95% interval", "Patients", "Cases",
               *estimate_rows.LOSSES, "Minus the others", "Corrected", "Interval by",
               "Note")  # fmt: skip
    caption = (
        f"{label(metric)} at the operating point in the worst case and under the hardest shift; "
        "groups of 10 or more"
    )
    return (Table(caption, columns, rows, folded=True),) if rows else ()
