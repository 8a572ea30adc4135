"""Certified limits drawn beside clean and attacked values, in bins of ten patients or more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.clinical import EJECTION_CUTS
from robustbench_med.reports.document import Figure, Table
from robustbench_med.reports.drawing import COLOURS, GREY, INK, LIGHT, draw
from robustbench_med.reports.wording import FEW, count, interval, label, number
from robustbench_med.statistics.certain import Certain

MOST_BARS = 10
VIEWS = 2
"""Certificates side by side in a drawing."""
COLUMNS = ("Certificate", "Clean LVEF, %", "Certified limits", "Reached by attacks", "Patients")


@dataclass(frozen=True)
class Bar:
    """Patients of like ejection fraction; each figure is the middle one of theirs, in %.

    Attributes:
        low: Lower certified limit; may be minus infinity.
        high: Upper certified limit.
        clean: On the images as they are.
        reached: Lowest and highest under attack; NaN where not all of them have both.
        patients: How many they are, at least ten.
    """

    low: float
    high: float
    clean: float
    reached: tuple[float, float]
    patients: int


def bars(found: Sequence[Certain]) -> list[Bar]:
    """Cut patients, in order of their clean LVEF, into bins of like number, ten or more in each."""
    known = [one for one in found if not math.isnan((one.clean or {}).get("lvef", math.nan))]
    number_of = min(MOST_BARS, len(known) // FEW)
    if number_of < 1:
        return []
    known.sort(key=_clean)
    return [_bar([known[place] for place in part])
            for part in np.array_split(np.arange(len(known)), number_of)]  # fmt: skip


def limits_figure(views: Sequence[tuple[str, list[Bar]]], name: str) -> Figure:
    """Draw the bars of one or two certificates side by side.

    Args:
        views: Certificates, each with its bars, at least one.
        name: Of the drawing.
    """
    caption = (
        "Ejection fraction of the left ventricle. Each bar stands for ten patients or more of like "
        "ejection fraction and reaches from the middle one of their lower certified limits to the "
        "middle one of their upper ones; inside, likewise, what attacks of the same ball reached; "
        "the mark is the middle clean value. Dashed: the limits at 40 and 50%. An arrow: the lower "
        "limit lies farther down. Single patients are not drawn, so that nobody's value is told."
    )
    rows = tuple(
        (label(probe), number(bar.clean), interval(bar.low, bar.high),
         interval(*bar.reached), count(bar.patients))
        for probe, found in views for bar in found
    )  # fmt: skip
    table = Table("Middle limits by ejection fraction, %", COLUMNS, rows, folded=True)
    most = max(len(found) for _, found in views)
    svg = draw(name, 7.4, 1.35 + 0.3 * most, lambda figure: _paint(figure, views))
    return Figure(svg, caption, _alt(views), table)


def _clean(one: Certain) -> float:
    return (one.clean or {})["lvef"]


def _bar(part: Sequence[Certain]) -> Bar:
    ends = np.array([(one.limits or {})["lvef"] for one in part])
    attacked = np.array([(one.reached or {}).get("lvef", (math.nan,) * 2) for one in part])
    low, high = (float(end) for end in np.median(ends, axis=0))
    reached = tuple(float(end) for end in np.median(attacked, axis=0))
    clean = float(np.median([_clean(one) for one in part]))
    return Bar(low, high, clean, (reached[0], reached[1]), len(part))


def _alt(views: Sequence[tuple[str, list[Bar]]]) -> str:
    said = [f"{label(probe)}: clean {number(bar.clean)}%, limits {interval(bar.low, bar.high)}"
            for probe, found in views for bar in found]  # fmt: skip
    return f"Certified limits of the ejection fraction. {'; '.join(said)}."


def _paint(figure: Canvas, views: Sequence[tuple[str, list[Bar]]]) -> None:
    axes = figure.subplots(1, len(views), sharex=True, squeeze=False)[0]
    shown = [value for _, found in views for bar in found
             for value in (bar.low, bar.high, bar.clean) if math.isfinite(value)]  # fmt: skip
    floor = max(min(shown), -25.0)
    ends = min(floor, *EJECTION_CUTS) - 4, max(*shown, *EJECTION_CUTS) + 4
    for place, (probe, found) in zip(axes, views, strict=True):
        place.set(title=label(probe, 44), xlim=ends, ylim=(len(found) - 0.4, -0.6),
                  xlabel="LVEF, %")  # fmt: skip
        for cut in EJECTION_CUTS:
            place.axvline(cut, color=GREY, linewidth=0.8, linestyle="--", zorder=0.5)
        for height, bar in enumerate(found):
            _line(place, bar, height, ends[0])
        place.set_yticks(range(len(found)), [f"{bar.patients} patients" for bar in found])
        place.tick_params(axis="y", length=0)
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=3)


def _line(axes: Axes, bar: Bar, height: int, left: float) -> None:
    low = max(bar.low, left)
    axes.barh(height, bar.high - low, 0.62, low, color=LIGHT, label="certified: stays inside")
    if bar.low < left:
        axes.plot([left], [height], "<", color=GREY, markersize=6, clip_on=False)
    if not math.isnan(bar.reached[0]):
        axes.plot(bar.reached, [height, height], color=COLOURS[1], linewidth=3.0,
                  label="reached by attacks", solid_capstyle="butt")  # fmt: skip
    axes.plot([bar.clean], [height], "D", color=INK, markersize=4.5, label="clean", zorder=3)
