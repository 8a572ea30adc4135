"""Reliability by group: how often the finding is there, against what was predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.reports.case_scores import CaseScores, curves
from robustbench_med.reports.document import Evidence, Figure, Table
from robustbench_med.reports.drawing import COLOURS, INK, LIGHT, MARKERS, draw
from robustbench_med.reports.wording import FEW, count, interval, label, number
from robustbench_med.statistics.estimate import Estimate, of_share
from robustbench_med.statistics.slices import Slice

MOST_BINS = 6
LEAST_BINS = 2
GROUPS = 4
PANELS = 4
COLUMNS = (
    "Group", "Bin", "Predicted", "Observed", "95% interval", "Patients", "Cases", "Interval by",
)  # fmt: skip


@dataclass(frozen=True)
class Bin:
    """Cases of like probability.

    Attributes:
        predicted: Their mean probability.
        observed: Share of them with the finding.
        patients: How many they belong to, at least ten.
        cases: How many they are.
    """

    predicted: float
    observed: Estimate
    patients: int
    cases: int


def bins(found: CaseScores) -> list[Bin]:
    """Cut the cases, in order of their probability, into bins of like size.

    As many as leave at least ten patients in each, at most six; none if that makes fewer
    than two.
    """
    order = np.argsort(found.score, kind="stable")
    ids = pd.factorize(found.cases["patient_id"])[0]
    for number_of in range(MOST_BINS, LEAST_BINS - 1, -1):
        parts = np.array_split(order, number_of)
        if min(len(set(ids[part].tolist())) for part in parts) >= FEW:
            return [_bin(found, ids, part) for part in parts]
    return []


def _bin(found: CaseScores, ids: np.ndarray, part: np.ndarray) -> Bin:
    whose = np.unique(ids[part], return_inverse=True)[1]
    cases = np.bincount(whose).astype(np.float64)
    hits = np.bincount(whose, found.positive[part]).astype(np.float64)
    return Bin(float(found.score[part].mean()), of_share(hits, cases), len(cases), len(part))


def reliability_figure(
    evidence: Evidence, metric: str, found: CaseScores, name: str
) -> Figure | None:
    """Draw a panel per subgroup, with its numbers; None where patients are too few."""
    panels = [
        (title, [(group, points) for group in groups if (points := bins(found.of(group)))])
        for title, groups in curves(evidence, found, GROUPS)[:PANELS]
    ]
    panels = [(title, groups) for title, groups in panels if groups]
    if not panels:
        return None

    def paint(figure: Canvas) -> None:
        columns = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, groups) in zip(columns, panels, strict=True):
            _panel(axes, title, groups)
        columns[0].set_ylabel("share with the finding")

    caption = (
        f"{label(metric)} on clean images: share of cases with the finding against the predicted "
        "probability, in bins of at least 10 patients, with 95% intervals. On the diagonal "
        "predictions are right; below it they are too high, above it too low."
    )
    rows = tuple(row for _, groups in panels for group, points in groups
                 for row in _rows(group, points))  # fmt: skip
    table = Table(f"Reliability of {label(metric)} by group", COLUMNS, rows, folded=True)
    alt = f"Reliability curves of {label(metric)} for {len(panels)} subgroups."
    svg = draw(name, 0.5 + 2.75 * len(panels), 3.5, paint)
    return Figure(svg, caption, alt, table)


def _panel(axes: Axes, title: str, groups: Sequence[tuple[Slice, list[Bin]]]) -> None:
    axes.set_title(label(title, 34), loc="left")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted", aspect="equal")
    axes.grid(color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=1.0)
    for place, (group, points) in enumerate(groups):
        colour = INK if not group.columns else COLOURS[place % 6]
        across = [point.predicted for point in points]
        values = np.array([point.observed.value for point in points])
        ends = np.array([(point.observed.low, point.observed.high) for point in points]).T
        # A share at 0 or 1 may lie a rounding error beyond its own limit.
        reach = np.maximum(np.abs(ends - values), 0.0)
        axes.errorbar(
            across, values, reach, color=colour, marker=MARKERS[place % 6], markersize=4,
            linewidth=1.0, elinewidth=0.8, label=label(group.group, 24),
        )  # fmt: skip
    axes.legend(loc="upper left", fontsize=7.5)


def _rows(group: Slice, points: Sequence[Bin]) -> Iterator[tuple[str, ...]]:
    name = f"{label(group.subgroup, 40)}: {label(group.group, 40)}" if group.columns else (
        "all patients"
    )  # fmt: skip
    for place, point in enumerate(points, 1):
        share = point.observed
        yield (
            name, str(place), number(point.predicted), number(share.value),
            interval(share.low, share.high), count(point.patients), count(point.cases),
            label(share.method),
        )  # fmt: skip
