"""A forest plot: one line per group, one panel per probe."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_med.reports.drawing import COLOURS, GREY, INK, LIGHT, draw
from robustbench_med.reports.rows import listed
from robustbench_med.reports.wording import count, label

PANELS = 4
LINES = 40
LINE_HEIGHT = 0.23


def pages(chosen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Split a table into parts of at most `LINES` groups, each beginning with all patients."""
    everyone = chosen[chosen["subgroup"] == ""]
    groups = chosen[chosen["subgroup"] != ""].groupby(["subgroup", "group"], sort=False)
    numbers = groups.ngroup()
    for first in range(0, max(groups.ngroups, 1), LINES):
        part = chosen.loc[numbers.index[(numbers >= first) & (numbers < first + LINES)]]
        ordered = part.assign(order=numbers).sort_values("order", kind="stable")
        yield pd.concat([everyone, ordered.drop(columns="order")])


def forest(name: str, part: pd.DataFrame, metric: str) -> str:
    """Draw one part as SVG; `name` is unique in the report."""
    probes = list(dict.fromkeys(part["probe"]))[:PANELS]
    lines = list(dict.fromkeys(zip(part["subgroup"], part["group"], strict=True)))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(probes), sharey=True, sharex=True, squeeze=False)[0]
        for axes, probe, colour in zip(panels, probes, COLOURS, strict=False):
            _panel(axes, part[part["probe"] == probe], lines, colour)
            axes.set_title(label(probe, 34), loc="left")
            axes.set_xlabel(label(metric, 40))
        panels[0].set_yticks(range(len(lines)), [_line_name(*line) for line in lines])
        panels[0].set_ylim(len(lines) - 0.5, -0.7)

    return draw(name, 2.2 + 2.1 * len(probes), 0.9 + LINE_HEIGHT * len(lines), paint)


def _line_name(subgroup: str, group: str) -> str:
    return f"{label(subgroup, 24)}: {label(group, 26)}" if subgroup else "all patients"


def _panel(axes: Axes, rows: pd.DataFrame, lines: list[tuple[str, str]], colour: str) -> None:
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    for row in listed(rows):
        height = lines.index((str(row.subgroup), str(row.group)))
        if not row.subgroup and row.status != "suppressed":
            axes.axvline(row.value, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        _mark(axes, row, height, INK if not row.subgroup else colour)


def _mark(axes: Axes, row: Any, height: int, colour: str) -> None:  # noqa: ANN401
    across = axes.get_yaxis_transform()
    shown: dict[str, Any] = {
        "transform": across,
        "ha": "left",
        "va": "center",
        "color": GREY,
        "fontsize": 7,
    }
    axes.text(1.04, height, count(row.patients), **shown)
    if row.status in ("suppressed", "undefined"):
        word = "too few to show" if row.status == "suppressed" else "no value"
        axes.text(0.02, height, word, style="italic", **shown)
        return
    if row.low == row.low:
        axes.plot([row.low, row.high], [height, height], color=colour, linewidth=1.4, zorder=2)
    filled = "white" if row.status == "not gated" else colour
    marker = "D" if not row.subgroup else "o"
    axes.plot(
        [row.value], [height], marker, color=colour, markerfacecolor=filled, markersize=5, zorder=3
    )
