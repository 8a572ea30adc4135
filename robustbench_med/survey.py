"""What is known of a cohort before anything is computed: its table of cases and its digest."""

from collections.abc import Sequence

import pyarrow as pa

from robustbench_med.cases import CaseSummary, Cohort
from robustbench_med.errors import InputError, raise_together

SHOWN = 20
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
