"""Calibration by group, in numbers and in words."""

import math
from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Listing, Table
from robustbench_med.reports.probes_shown import under
from robustbench_med.reports.wording import label

NAMES = {
    "observed_expected": "Observed over expected",
    "calibration_slope": "Slope",
    "calibration_intercept": "Intercept",
    "smooth_ece": "Smooth calibration error",
}


def calibration(evidence: Evidence, metric: str) -> Table:
    """Every figure of calibration by group, clean images."""
    rows = tuple(
        (
            estimate_rows.group_name(row), NAMES[name], *estimate_rows.cells(row),
            *estimate_rows.losses(row), estimate_rows.difference(row), estimate_rows.method(row),
            estimate_rows.reason(row),
        )
        for name in NAMES
        for row in under(evidence, f"{metric}.{name}", "clean")
        if row.status != "suppressed"
    )  # fmt: skip
    columns = ("Group", "Figure", "Value", "95% interval", "Patients", "Cases",
               *estimate_rows.LOSSES, "Minus the others", "Interval by", "Note")  # fmt: skip
    caption = f"Calibration of {label(metric)}, clean images; groups of 10 or more on both sides"
    return Table(caption, columns, rows, folded=True)


def in_words(evidence: Evidence, metric: str) -> Listing:
    """Who gets predictions that are too high, too low, too extreme or too moderate."""
    ratio = under(evidence, f"{metric}.observed_expected", "clean")
    slope = under(evidence, f"{metric}.calibration_slope", "clean")
    known = [row for row in ratio if not math.isnan(row.low)]
    said = (
        ("predicted risks are too high", [r for r in known if r.high < 1], "O:E"),
        ("predicted risks are too low", [r for r in known if r.low > 1], "O:E"),
        ("predictions are too extreme", [r for r in slope if r.high < 1], "slope"),
        ("predictions are too moderate", [r for r in slope if r.low > 1], "slope"),
    )
    lines = [
        ("", f"{text[:1].upper()}{text[1:]} for {_each(rows, what)}.")
        for text, rows, what in said if rows
    ]  # fmt: skip
    rest = [row for row in known if row.low <= 1 <= row.high]
    if rest:
        lines.append(
            ("", f"Observed over expected cannot be told from 1 for {_each(rest, 'O:E')}.")
        )
    title = (
        "Calibration on clean images, in words; each interval by itself, not corrected for the "
        "number of groups"
    )
    return Listing(title, tuple(lines))


def _each(rows: list[Any], what: str) -> str:
    texts = [f"{estimate_rows.group_name(row)} ({what} {estimate_rows.named_value(row)})"
             for row in rows]  # fmt: skip
    return "; ".join(texts)
