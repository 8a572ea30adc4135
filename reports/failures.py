"""What could not be scored, what has no value, and what was not recorded."""

from collections import Counter
from typing import Any

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.obstacle import failure_counts
from robustbench_med.reports.rows import listed
from robustbench_med.reports.wording import DASH, label, plain_count, share

KINDS_SHOWN = 30


def failures(evidence: Evidence) -> Section:
    """Failures by probe and by error, undefined values by metric, attributes not recorded."""
    limit = float(evidence.manifest.get("failure_limit", 0.05))
    rows = len(evidence.failures)
    paragraphs = (
        (
            f"{rows} answers are missing, or stand for less than was asked, because a case could "
            "not be scored or is not supported. "
            f"A probe that fails on more than {limit:.1%} of its cases decides no rule."
        ),
        (
            "A case that a component does not support, in whole or in part, is listed and does "
            "not count as a failure."
        ),
        "Ids are left out of the messages; failures.parquet in the run folder has them.",
    )
    tables = (_by_probe(evidence, limit), by_error(evidence), _undefined(evidence),
              _missing(evidence))  # fmt: skip
    return Section("failures", "Failures and missing data", paragraphs, (), tables)


def _by_probe(evidence: Evidence, limit: float) -> Table:
    failed = failure_counts(evidence.failures)
    unsupported = evidence.failures["error"] == "UnsupportedError"
    left = evidence.failures[unsupported].groupby("probe")["case_id"].nunique()
    rows, tones = [], []
    for probe in evidence.manifest["probes"]:
        name, asked = probe["name"], int(probe["cases"])
        lost, over = failed.get(name, 0), failed.get(name, 0) > limit * asked
        rows.append((
            label(name), str(asked), str(lost), share(lost, asked), str(int(left.get(name, 0))),
            "over the limit" if over else "within the limit",
        ))  # fmt: skip
        tones.append("fail" if over else "")
    columns = ("Probe", "Cases asked", "Failed", "Share failed", "Not supported", "Limit")
    return Table("Failures by probe", columns, tuple(rows), tuple(tones))


def by_error(evidence: Evidence) -> Table:
    """Count the answers that are missing by probe and reason, without ids; empty if none is."""
    found = evidence.failures.merge(
        evidence.cases[["case_id", "patient_id"]], on="case_id", how="left"
    )
    answers = Counter((str(row.probe), str(row.error), _without_ids(row)) for row in listed(found))
    rows = [
        (label(probe), label(error), message, str(times))
        for (probe, error, message), times in sorted(
            answers.items(), key=lambda item: (-item[1], item[0])
        )
    ]
    more = len(rows) - KINDS_SHOWN
    rows[KINDS_SHOWN:] = [(f"and {more} more kinds", DASH, DASH, DASH)] if more > 0 else []
    return Table("Failures by error", ("Probe", "Error", "Message", "Answers"), tuple(rows))


def _without_ids(row: Any) -> str:  # noqa: ANN401
    message = str(row.message)
    for name in sorted({str(row.case_id), str(row.patient_id)}, key=len, reverse=True):
        message = message.replace(name, "(id)")
    return label(message, 160)


def _undefined(evidence: Evidence) -> Table:
    table = evidence.estimates
    found = table[(table["subgroup"] == "") & (table["undefined"] > 0)]
    rows = tuple(
        (label(row.probe), label(row.metric), plain_count(row.undefined), str(int(row.cases)),
         share(row.undefined, row.cases + row.undefined))
        for row in listed(found)
    )  # fmt: skip
    columns = ("Probe", "Metric", "Undefined", "Cases with a value", "Share undefined")
    return Table("Values that are undefined though nothing failed", columns, rows)


def _missing(evidence: Evidence) -> Table:
    cohort = evidence.manifest["cohort"]
    rows = tuple(
        (label(name), str(int(absent)), share(absent, cohort["cases"]))
        for name, absent in cohort["missing"].items()
    )
    columns = ("Attribute", "Cases not recorded", "Share of cases")
    return Table("Attributes that are not recorded", columns, rows)
