"""ROC curves by group, with the fixed threshold marked."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.reports.case_scores import CaseScores, curves
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.drawing import COLOURS, GREY, INK, LIGHT, MARKERS, draw
from robustbench_med.reports.probes_shown import under
from robustbench_med.reports.wording import label
from robustbench_med.statistics.roc import roc_points
from robustbench_med.statistics.slices import Slice

POINTS = 60
GROUPS = 6
PANELS = 4
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
Point = tuple[float, float]


def roc_figure(evidence: Evidence, metric: str, found: CaseScores, name: str) -> str | None:
    """Draw a panel per subgroup; None where no group has enough patients on both sides."""
    panels = curves(evidence, found, GROUPS)[:PANELS]
    if not panels:
        return None
    marked = operating_points(evidence, metric)

    def paint(figure: Canvas) -> None:
        columns = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, groups) in zip(columns, panels, strict=True):
            _panel(axes, title, groups, found, marked)
        columns[0].set_ylabel("sensitivity")

    return draw(name, 0.5 + 2.75 * len(panels), 3.4, paint)


def operating_points(evidence: Evidence, metric: str) -> dict[tuple[str, str], Point]:
    """1 - specificity and sensitivity of every group at the threshold, where they are shown."""
    found, right = (
        {(r.subgroup, r.group): r.value for r in under(evidence, f"{metric}.{name}", "clean")}
        for name in ("sensitivity", "specificity")
    )
    points = {group: (1 - right.get(group, math.nan), high) for group, high in found.items()}
    return {group: point for group, point in points.items() if not math.isnan(sum(point))}


def _panel(
    axes: Axes,
    title: str,
    groups: Sequence[Slice],
    found: CaseScores,
    marked: dict[tuple[str, str], Point],
) -> None:
    axes.set_title(label(title, 34), loc="left")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="1 - specificity", aspect="equal")
    axes.grid(color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=1.0)
    for place, group in enumerate(groups):
        own = found.of(group)
        colour = INK if not group.columns else COLOURS[place % 6]
        across, up = roc_points(own.score, own.positive, POINTS)
        axes.plot(across, up, color=colour, linewidth=1.2, linestyle=DASHES[place % 6],
                  label=label(group.group, 24))  # fmt: skip
        point = marked.get((group.subgroup, group.group))
        if point:
            axes.plot(*point, MARKERS[place % 6], color=colour, markersize=7,
                      markeredgecolor="white", zorder=4)  # fmt: skip
    axes.legend(loc="lower right", fontsize=7.5)
    if not marked:
        axes.text(0.98, 0.02, "no threshold", ha="right", color=GREY, fontsize=7)
