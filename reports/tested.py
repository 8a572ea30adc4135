"""What was tested: model, cohort, who is in it, and which questions were asked."""

import pandas as pd

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import DASH, FEW, count, label, number, share

SHOWN_VALUES = 12
IDS = ("case_id", "patient_id", "split")


def tested(evidence: Evidence) -> Section:
    """Digests, numbers of cases and patients, attributes, and probes."""
    manifest = evidence.manifest
    cohort, task = manifest["cohort"], manifest["task"]
    classes = ", ".join(label(name, 30) for name in task["classes"])
    low, high = manifest["bounds"]
    paragraphs = (
        (
            f"Model {label(manifest['model']['name'])} was put to {count(cohort['cases'])} cases "
            f"of {count(cohort['patients'])} patients of the cohort {label(cohort['name'])}. "
            f"Task: {label(task['kind'])} ({classes or 'no classes'}); "
            f"legal intensities {low} to {high}."
        ),
        "A digest names the content exactly: whoever has the same file gets the same digest.",
    )
    tables = (_digests(evidence), _attributes(evidence), _probes(evidence))
    return Section("tested", "What was tested", paragraphs, (), tables)


def _digests(evidence: Evidence) -> Table:
    named = {"plan": evidence.manifest.get("plan_digest"), **evidence.manifest["digests"]}
    rows = tuple((label(name), label(digest or DASH, 80)) for name, digest in named.items())
    return Table("Digests", ("Of", "SHA-256"), rows)


def attributes(evidence: Evidence) -> list[str]:
    """Columns of the cases that describe patients or their scans."""
    named = evidence.manifest["cohort"].get("missing") or evidence.cases.columns
    return [name for name in named if name in evidence.cases.columns and name not in IDS]


def _attributes(evidence: Evidence) -> Table:
    rows = [row for name in attributes(evidence) for row in _distribution(evidence.cases, name)]
    columns = ("Attribute", "Value", "Patients", "Cases", "Share of cases")
    caption = (
        "Who was tested; groups of fewer than 10 patients are not counted out, and what has no "
        "row 'not recorded' is known of every case"
    )
    return Table(caption, columns, tuple(rows))


def _distribution(cases: pd.DataFrame, name: str) -> list[tuple[str, ...]]:
    column, total = cases[name], len(cases)
    known = cases[column.notna()]
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and not _is_common(known, name):
        rows = [_row(name, _spread(known, name), known, total)]
    else:
        texts = known[name].astype(str)
        sizes = texts.groupby(texts).size().sort_values(ascending=False, kind="stable")
        shown = list(sizes.index[:SHOWN_VALUES])
        rows = [_row(name, label(value), known[texts == value], total) for value in shown]
        others = known[~texts.isin(shown)]
        if len(others):
            rows.append(_row(name, f"{len(sizes) - len(shown)} other values", others, total))
    missing = cases[column.isna()]
    return [*rows, _row(name, "not recorded", missing, total)] if len(missing) else rows


def _is_common(known: pd.DataFrame, name: str) -> bool:
    """Whether each value of a number is that of so many patients that it may be named."""
    patients = known.groupby(name)["patient_id"].nunique()
    return len(patients) <= SHOWN_VALUES and bool((patients >= FEW).all())


def _spread(known: pd.DataFrame, name: str) -> str:
    if known["patient_id"].nunique() < FEW:
        return f"a number, of fewer than {FEW} patients"
    low, middle, high = known[name].astype(float).quantile([0.05, 0.5, 0.95])
    return f"median {number(middle)}, 90% within {number(low)} to {number(high)}"


def _row(name: str, value: str, cases: pd.DataFrame, total: int) -> tuple[str, ...]:
    patients = int(cases["patient_id"].nunique())
    if 0 < patients < 10:
        return label(name), value, count(patients), DASH, DASH
    return label(name), value, str(patients), str(len(cases)), share(len(cases), total)


def _probes(evidence: Evidence) -> Table:
    rows = tuple(
        (
            label(probe["name"]),
            label(probe["kind"]),
            label(probe.get("component") or DASH),
            label(probe.get("ball") or (number(probe["level"]) if probe["level"] else DASH)),
            count(probe["cases"]),
            label(probe["digest"], 14),
        )
        for probe in evidence.manifest["probes"]
    )
    columns = ("Probe", "Kind", "Component", "Ball or severity", "Cases asked", "Digest")
    return Table("Questions asked", columns, rows)
