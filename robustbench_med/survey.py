"""What is known of a cohort before anything is computed: its cases, and whether they suffice."""

from collections.abc import Sequence
from math import isnan
from statistics import median

import pyarrow as pa

from robustbench_med.cases import CaseSummary, Cohort
from robustbench_med.cohorts.age import years
from robustbench_med.errors import InputError, raise_together

SHOWN = 20
FEWEST_PATIENTS = 20
FEWEST_IN_GROUP = 10
MANY_GROUPS = 12
RESERVED = ("case_id", "patient_id")


def survey(cohort: Cohort) -> tuple[CaseSummary, ...]:
    """Summarise every case, decoding it unless the cohort knows its summaries.

    Raises:
        InputError: If there is no case, an id repeats or would be unsafe as a file's name,
            or cases cannot be read; all of these at once.
    """
    if len(cohort) == 0:
        raise InputError(f"cohort {cohort.name!r}: expected at least 1 case, got 0")
    problems: list[str] = []
    found: dict[str, CaseSummary] = {}
    for index in range(len(cohort)):
        try:
            summary = cohort.summary(index)
        except InputError as error:
            problems.append(str(error))
            continue
        problems += _wrong_id(summary.case_id, found)
        found[summary.case_id] = summary
    if len(problems) > SHOWN:
        problems[SHOWN:] = [f"cohort {cohort.name!r}: and {len(problems) - SHOWN} more problems"]
    raise_together(problems)
    return tuple(found.values())


def _wrong_id(case_id: str, found: dict[str, CaseSummary]) -> list[str]:
    if case_id in found:
        return [f"case {case_id!r}: the id is there twice"]
    if "/" in case_id or "\\" in case_id or case_id in (".", "..") or not case_id.isprintable():
        return [f"case {case_id!r}: an id must be printable and without '/' or '\\'"]
    return []


def case_table(summaries: Sequence[CaseSummary], split: str) -> pa.Table:
    """One row per case: `case_id, patient_id, split`, then every attribute.

    An attribute that holds texts anywhere is a column of texts.
    """
    columns: dict[str, pa.Array] = {
        "case_id": pa.array([s.case_id for s in summaries]),
        "patient_id": pa.array([s.patient_id for s in summaries]),
        "split": pa.array([str(s.attributes.get("split", split)) for s in summaries]),
    }
    names = dict.fromkeys(name for s in summaries for name in s.attributes)
    for name in (n for n in names if n != "split"):
        if name in RESERVED:
            raise InputError(f"cohort: an attribute may not be called {name!r}")
        columns[name] = _column([s.attributes.get(name) for s in summaries])
    return pa.table(columns)


def _column(values: Sequence[object]) -> pa.Array:
    if any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else str(value) for value in values])
    if any(isinstance(value, float) for value in values):
        return pa.array([None if v is None or v != v else float(v) for v in values])  # type: ignore[arg-type]  # noqa: PLR0124
    return pa.array(values)


def few_patients(summaries: Sequence[CaseSummary]) -> str | None:
    """Say so where there are fewer than 20 patients; None where there are enough."""
    patients = len({summary.patient_id for summary in summaries})
    if patients >= FEWEST_PATIENTS:
        return None
    return (
        f"cohort: expected at least {FEWEST_PATIENTS} patients, got {patients}: intervals are wide "
        f"or missing, and a group of fewer than {FEWEST_IN_GROUP} patients is not shown; add "
        "patients, and make no claim of a group"
    )


def suspicious_subgroups(
    summaries: Sequence[CaseSummary], subgroups: Sequence[Sequence[str]]
) -> list[str]:
    """Say which subgroups fall into many groups that are mostly too small to be shown.

    That is more than 12 groups, more than half of which have fewer than 10 patients: a number
    without bands, or a text that hardly repeats. A crossing is left out if one of its attributes
    is told of alone.

    Args:
        summaries: Of all cases.
        subgroups: Attributes, each alone or crossed, as a plan's `subgroups`.
    """
    told: dict[tuple[str, ...], str] = {}
    for columns in sorted(map(tuple, subgroups), key=len):
        sizes = _patients_by_group(summaries, columns)
        small = sum(size < FEWEST_IN_GROUP for size in sizes)
        if any((column,) in told for column in columns):
            continue
        if len(sizes) > MANY_GROUPS and 2 * small > len(sizes):
            advice = _advice(summaries, columns)
            told[columns] = (
                f"subgroups: {' x '.join(columns)!r} has {len(sizes)} groups (median size "
                f"{median(sizes):g}), {small} of them of fewer than {FEWEST_IN_GROUP} patients; "
                f"{advice}"
            )
    return list(told.values())


def _patients_by_group(summaries: Sequence[CaseSummary], columns: Sequence[str]) -> list[int]:
    """How many patients every group has; a case that lacks an attribute is in none."""
    patients: dict[tuple[object, ...], set[str]] = {}
    for summary in summaries:
        values = tuple(_recorded(summary, column) for column in columns)
        if None not in values:
            patients.setdefault(values, set()).add(summary.patient_id)
    return [len(each) for each in patients.values()]


def _recorded(summary: CaseSummary, column: str) -> object:
    value = summary.attributes.get(column)
    return None if isinstance(value, float) and isnan(value) else value


def _advice(summaries: Sequence[CaseSummary], columns: Sequence[str]) -> str:
    """What to do about it: bands for numbers, fewer values for texts."""
    for column in columns:
        values = {_recorded(summary, column) for summary in summaries} - {None}
        if len(values) > MANY_GROUPS and all(map(_is_number, values)):
            return f"declare bands of {column!r} and name those"
    return "merge values, or leave it out"


def _is_number(value: object) -> bool:
    """Whether bands can be made of it: a number, or an age as DICOM writes it."""
    if isinstance(value, str):
        return years(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)
