"""What a group's value could be, whichever of the patients without a record belong to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.reports.document import Evidence, Part, Table
from robustbench_med.reports.probes_shown import called, clean_and_worst, under
from robustbench_med.reports.rows import cells, compared, group_name, method
from robustbench_med.reports.wording import FEW, count, label, number
from robustbench_med.statistics.reading import asked_cases
from robustbench_med.statistics.slices import NOT_RECORDED, Slice, recorded, slices_of

COLUMNS = (
    "Group", "Metric", "Under", "Value", "95% interval", "Patients", "Patients without a record",
    "The value lies between", "Interval by",
)  # fmt: skip
READ = (
    (
        "Some patients have no record of what a group is made by. Whichever of them belong to the "
        "group, its value among those tested lies between the two numbers: they are bounds, "
        "without chance in them, not an interval. Where they are wide, the record decides what "
        "can be said of the group."
    ),
    f"Where fewer than {FEW} patients have no record, nothing is shown: it would tell of them.",
)


def unrecorded(evidence: Evidence) -> Part | None:
    """One row per group, metric and probe; None where everything is recorded."""
    unknown = _unknown_patients(evidence)
    rows = [
        row
        for metric in compared(evidence)
        for probe in clean_and_worst(evidence, metric)
        for row in under(evidence, metric, probe)
        if not pd.isna(row.bound_low) and unknown.get((row.subgroup, row.group), 0) >= FEW
    ]
    if not rows:
        return None
    found = tuple(_row(row, unknown) for row in rows)
    table = Table("Groups, whoever without a record belongs to them", COLUMNS, found)
    return Part("Patients without a record", READ, (), (), (table,), folded=True)


def _row(row: Any, unknown: Mapping[tuple[str, str], int]) -> tuple[str, ...]:  # noqa: ANN401
    value, limits, patients, _ = cells(row)
    return (
        group_name(row), label(row.metric), called(row.probe), value, limits, patients,
        count(unknown[row.subgroup, row.group]),
        f"{number(row.bound_low)} and {number(row.bound_high)}", method(row),
    )  # fmt: skip


def _unknown_patients(evidence: Evidence) -> dict[tuple[str, str], int]:
    """By subgroup and group, how many patients no record keeps out of it."""
    cases = asked_cases(evidence.records, evidence.cases, evidence.failures)
    return {
        (group.subgroup, group.group): _who_might(cases, group)
        for columns in evidence.manifest["subgroups"]
        for group in slices_of(cases, columns)
    }


def _who_might(cases: pd.DataFrame, group: Slice) -> int:
    possible = np.ones(len(cases), dtype=bool)
    for column, value in zip(group.columns, group.values, strict=True):
        possible &= recorded(cases, column).isin([value, NOT_RECORDED]).to_numpy(dtype=bool)
    return int(cases.loc[possible & ~group.mask(cases), "patient_id"].nunique())
