"""A Bland-Altman plot that shows no single patient: errors in bins of ten patients or more."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Figure, Table
from robustbench_med.reports.drawing import BAND, COLOURS, INK, LIGHT, draw
from robustbench_med.reports.probes_shown import under
from robustbench_med.reports.wording import FEW, count, interval, label, number
from robustbench_med.statistics.bootstrap import Floats

MOST_BINS = 10
Z = 1.96
COLUMNS = (
    "Mean of predicted and true", "Mean error", "95% interval", "Mean error ± 1.96 SD", "Patients",
)  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """Patients of like size.

    Attributes:
        size: Their mean of predicted and true.
        error: Their mean error.
        spread: Standard deviation of their errors.
        patients: How many they are, at least ten.
    """

    size: float
    error: float
    spread: float
    patients: int

    @property
    def reach(self) -> float:
        """Half of the interval of the mean error, by the normal law."""
        return Z * self.spread / math.sqrt(self.patients)


def bland_altman_figure(evidence: Evidence, metric: str, name: str) -> Figure | None:
    """Draw errors against size on clean images; None without values or with too few patients.

    Source: Bland and Altman, Lancet 1986, i:307-310; binned, since a dot would be a patient.
    """
    found = stretches(_patients(evidence, metric))
    lines = [next(iter(under(evidence, f"{metric}{end}", "clean")), None)
             for end in ("", ".loa_low", ".loa_high")]  # fmt: skip
    if len(found) < 2 or any(row is None or row.status == "suppressed" for row in lines):
        return None
    unit = estimate_rows.setting(evidence, metric, "unit")
    of = f", {label(unit)}" if unit else ""

    def paint(figure: Any) -> None:  # noqa: ANN401
        axes = figure.subplots()
        _paint(axes, found, lines)
        axes.set_xlabel(f"mean of predicted and true{of}")
        axes.set_ylabel(f"predicted minus true{of}")

    caption = (
        f"{label(metric)} of all patients on clean images, against the size of what is measured. "
        "Each mark is the mean error of at least 10 patients, its line the stretch in which about "
        "95% of their errors lie. Across: the bias and the limits of agreement of all, pale with "
        "their 95% intervals. Single patients are not drawn, so that nobody's value is told."
    )
    rows = tuple(
        (
            number(each.size), number(each.error),
            interval(each.error - each.reach, each.error + each.reach),
            interval(each.error - Z * each.spread, each.error + Z * each.spread),
            count(each.patients),
        )
        for each in found
    )  # fmt: skip
    table = Table(f"Errors of {label(metric)} by size, clean images; intervals by the normal law",
                  COLUMNS, rows, folded=True)  # fmt: skip
    alt = f"Bland-Altman plot of {label(metric)} in {len(found)} bins of patients."
    return Figure(draw(name, 6.4, 3.6, paint), caption, alt, table)


def stretches(patients: pd.DataFrame) -> list[Stretch]:
    """Cut patients, in order of their size, into bins of like number, at least ten in each.

    Args:
        patients: One row each: `predicted`, `true`.
    """
    number_of = min(MOST_BINS, len(patients) // FEW)
    if number_of < 1:
        return []
    size = patients[["predicted", "true"]].mean(axis=1).to_numpy()
    error = (patients["predicted"] - patients["true"]).to_numpy()
    parts = np.array_split(np.argsort(size, kind="stable"), number_of)
    return [_stretch(size[part], error[part]) for part in parts]


def _stretch(size: Floats, error: Floats) -> Stretch:
    return Stretch(float(size.mean()), float(error.mean()), float(error.std(ddof=1)), len(size))


def _patients(evidence: Evidence, metric: str) -> pd.DataFrame:
    """Predicted and true of every patient: the sum or the mean of the cases, as the metric says."""
    clean = evidence.records[evidence.records["kind"] == "clean"]
    columns = {
        name: clean[clean["metric"] == f"{metric}.{name}"].set_index("case_id")["value"]
        for name in ("predicted", "true")
    }
    known = pd.DataFrame(columns).dropna()
    cases = evidence.cases[["case_id", "patient_id"]].merge(
        known, left_on="case_id", right_index=True
    )
    grouped = cases.groupby("patient_id", sort=True)[["predicted", "true"]]
    summed = estimate_rows.setting(evidence, metric, "patient") == "sum"
    found: pd.DataFrame = grouped.sum() if summed else grouped.mean()
    return found


def _paint(axes: Axes, found: list[Stretch], lines: list[Any]) -> None:
    axes.grid(color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axhline(0, color=LIGHT, linewidth=1.2)
    for row, style in zip(lines, ("-", "--", "--"), strict=True):
        if row.low == row.low:
            axes.axhspan(row.low, row.high, color=BAND, linewidth=0, zorder=0.5)
        axes.axhline(row.value, color=INK, linewidth=1.0, linestyle=style)
    for each in found:
        axes.plot([each.size] * 2, [each.error - Z * each.spread, each.error + Z * each.spread],
                  color=COLOURS[0], linewidth=1.0)  # fmt: skip
        axes.plot([each.size], [each.error], "o", color=COLOURS[0], markersize=5)
