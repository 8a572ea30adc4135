"""A forest plot: one line per group, one panel per quantity."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_med.reports.drawing import BAND, COLOURS, GREY, INK, LIGHT, draw, width_of
from robustbench_med.reports.rows import listed
from robustbench_med.reports.wording import count, label

LINES = 40
LINE_HEIGHT = 0.23
PANEL, SIDE, TOP, BOTTOM = 1.85, 0.64, 0.34, 0.85
"""Inches: width of a panel, room right of it, above and below all panels."""
EVERYONE = "all patients"
LOOKS = {
    EVERYONE: (INK, "D"),
    "worse": (COLOURS[1], "s"),
    "hurt more": (COLOURS[1], "s"),
    "moved more": (COLOURS[1], "s"),
    "differs": (COLOURS[3], "P"),
    "moved otherwise": (COLOURS[3], "P"),
    "better": (COLOURS[2], "^"),
    "hurt less": (COLOURS[2], "^"),
    "moved less": (COLOURS[2], "^"),
    "no difference found": (COLOURS[0], "o"),
    "": (COLOURS[0], "o"),
}
UNDECIDED = (GREY, "o")
"""Colour and shape of every other word: these patients do not decide."""
Line = tuple[str, str]


@dataclass(frozen=True)
class Mark:
    """A point with its interval.

    Attributes:
        value: NaN where nothing is shown.
        low: NaN without an interval.
        high: NaN without an interval.
        word: Picks the look.
        hollow: Whether too few patients stand behind it to be gated.
        band: Size below which a difference would have been missed; NaN for none.
        side: Text beside the panel.
        absent: What stands there instead where there is no value.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    word: str = ""
    hollow: bool = False
    band: float = math.nan
    side: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Panel:
    """One column of a forest plot.

    Attributes:
        title: Above it.
        axis: What is measured.
        marks: By subgroup and group.
        reference: Where a line stands: the value of all patients, or no difference.
        solid: Whether that line is a whole one.
        side: Heading of the texts beside it.
    """

    title: str
    axis: str
    marks: Mapping[Line, Mark]
    reference: float = math.nan
    solid: bool = False
    side: str = ""


def pages(chosen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Split a table into parts of at most `LINES` groups, each beginning with all patients."""
    everyone = chosen[chosen["subgroup"] == ""]
    groups = chosen[chosen["subgroup"] != ""].groupby(["subgroup", "group"], sort=False)
    numbers = groups.ngroup()
    for first in range(0, max(groups.ngroups, 1), LINES):
        part = chosen.loc[numbers.index[(numbers >= first) & (numbers < first + LINES)]]
        ordered = part.assign(order=numbers).sort_values("order", kind="stable")
        yield pd.concat([everyone, ordered.drop(columns="order")])


def lines_of(part: pd.DataFrame) -> list[Line]:
    """Subgroup and group of every line, in the table's order."""
    pairs = zip(part["subgroup"].astype(str), part["group"].astype(str), strict=True)
    return list(dict.fromkeys(pairs))


def value_panel(title: str, axis: str, rows: pd.DataFrame, words: Mapping[Line, str]) -> Panel:
    """Values with the number of patients beside them; the dashed line is that of all patients."""
    found = {(str(row.subgroup), str(row.group)): row for row in listed(rows)}
    marks = {
        line: Mark(
            math.nan if row.status in ("suppressed", "undefined") else row.value,
            row.low,
            row.high,
            words.get(line, "") if line[0] else EVERYONE,
            row.status == "not gated",
            side=count(row.patients),
            absent="too few to show" if row.status == "suppressed" else "no value",
        )
        for line, row in found.items()
    }
    everyone = next((row.value for line, row in found.items() if not line[0]), math.nan)
    return Panel(title, axis, marks, everyone, side="n")


def forest(name: str, lines: Sequence[Line], panels: Sequence[Panel]) -> str:
    """Draw one part as SVG; `name` is unique in the report. A line without any value is left out.

    Places are reckoned here rather than by a layout engine, which takes seconds for many texts.
    """
    drawn = [line for line in lines if not line[0] or any(_has_value(p, line) for p in panels)]
    names = [_line_name(*line) for line in drawn]
    left = max(width_of(text) for text in [*names, EVERYONE]) + 0.25
    width = left + (PANEL + SIDE) * len(panels)
    height = TOP + LINE_HEIGHT * (len(drawn) + 1) + BOTTOM

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        for place, panel in enumerate(panels):
            corner = (left + place * (PANEL + SIDE)) / width, BOTTOM / height
            axes = figure.add_axes((*corner, PANEL / width, 1 - (TOP + BOTTOM) / height))
            _panel(axes, panel, drawn)
            axes.set_ylim(len(drawn) - 0.3, -0.7)
            axes.set_yticks(range(len(drawn)) if place == 0 else [])
            axes.set_yticklabels(names if place == 0 else [])
        _legend(figure, panels)

    return draw(name, width, height, paint)


def _has_value(panel: Panel, line: Line) -> bool:
    return line in panel.marks and not math.isnan(panel.marks[line].value)


def _line_name(subgroup: str, group: str) -> str:
    return f"{label(subgroup, 24)}: {label(group, 26)}" if subgroup else EVERYONE


def _panel(axes: Axes, panel: Panel, lines: Sequence[Line]) -> None:
    title = label(panel.title, 38)  # a word of doubt behind a worst case's name still fits
    axes.set_title(title, loc="left", fontsize=8 if len(title) <= 31 else 6.6, pad=9)
    axes.set_xlabel(label(panel.axis, 40))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlim(*_range(panel))
    style = "-" if panel.solid else "--"
    if not math.isnan(panel.reference):
        axes.axvline(panel.reference, color=GREY, linestyle=style, linewidth=0.8, zorder=1)
    _text(axes, 1.04, -0.75, panel.side)
    for height, line in enumerate(lines):
        if height > 1 and line[0] != lines[height - 1][0]:
            axes.axhline(height - 0.5, color=LIGHT, linewidth=0.6, zorder=0)
        if line in panel.marks:
            _mark(axes, panel.marks[line], height)


def _range(panel: Panel) -> tuple[float, float]:
    """What shows every interval and the reference; bands may reach beyond."""
    ends = [end for mark in panel.marks.values() if not math.isnan(mark.value)
            for end in (mark.value, mark.low, mark.high)]  # fmt: skip
    known = np.array([end for end in [*ends, panel.reference] if math.isfinite(end)])
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - room, high + room


def _mark(axes: Axes, mark: Mark, height: int) -> None:
    _text(axes, 1.04, height, mark.side)
    if math.isnan(mark.value):
        _text(axes, 0.02, height, mark.absent, style="italic")
        return
    colour, shape = LOOKS.get(mark.word, UNDECIDED)
    if math.isfinite(mark.band):
        axes.barh(height, 2 * mark.band, 0.62, -mark.band, color=BAND, linewidth=0, zorder=0.5)
    if mark.low == mark.low:
        axes.plot([mark.low, mark.high], [height, height], color=colour, linewidth=1.4, zorder=2)
    filled = "white" if mark.hollow else colour
    axes.plot(
        [mark.value], [height], shape, color=colour, markerfacecolor=filled, markersize=5, zorder=3
    )


def _text(axes: Axes, across: float, height: float, text: str, **style: Any) -> None:  # noqa: ANN401
    look = {"ha": "left", "va": "center", "color": GREY, "fontsize": 7, **style}
    if text:
        axes.text(across, height, text, transform=axes.get_yaxis_transform(), **look)


def _legend(figure: Figure, panels: Sequence[Panel]) -> None:
    """Say what each look that was used means."""
    marks = [mark for panel in panels for mark in panel.marks.values() if mark.value == mark.value]
    words = [word for word in dict.fromkeys(mark.word for mark in marks) if word]
    order = [*LOOKS, "cannot tell"]
    for word in sorted(words, key=lambda word: order.index(word) if word in order else len(order)):
        colour, shape = LOOKS.get(word, UNDECIDED)
        figure.axes[0].plot([], [], shape, color=colour, markersize=5, label=word)
    if any(mark.hollow for mark in marks):
        figure.axes[0].plot([], [], "o", color=GREY, markerfacecolor="white", markersize=5,
                            label="10 to 29 patients")  # fmt: skip
    if any(math.isfinite(mark.band) for mark in marks):
        figure.axes[0].plot([], [], "s", color=BAND, markersize=9, label="too small to be found")
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(loc="lower left", ncols=8, fontsize=7.5, handletextpad=0.2,
                      columnspacing=1.2)  # fmt: skip
