"""How each metric falls as an adversary may move the image farther."""

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.believed import DOUBTED
from robustbench_med.reports.document import Evidence, Figure, Section, Table
from robustbench_med.reports.drawing import COLOURS, INK, LIGHT, MARKERS, draw
from robustbench_med.reports.wording import label, number

BALL = re.compile(r"\[(?P<norm>\w+)<=(?P<eps>[^\s\]]+)(?P<rest>[^\]]*)\]")
COLUMNS = (
    "Probe", "Norm", "eps", "Value", "95% interval", "Patients", "Cases", *estimate_rows.LOSSES,
    "Interval by", "Note",
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One attack, or the worst case, over growing eps in one norm."""

    name: str
    norm: str
    rows: tuple[Any, ...]

    def titled(self, width: int) -> str:
        """Its name, with the gravest doubt about any of its balls."""
        said = {row.validity for row in self.rows}
        gravest = next((word for word in reversed(DOUBTED) if word in said), "")
        return f"{label(self.name, width)}{f' ({gravest})' if gravest else ''}"


def robustness(evidence: Evidence) -> Section:
    """One figure per metric: a panel per norm, a curve per attack, and the worst case."""
    paragraphs: tuple[str, ...] = (
        (
            "An attack searches the ball for the image that the model handles worst. What it "
            "finds is real harm, and there may be more: the harm is no less than shown, so a "
            "curve is the most robustness that can be claimed. The band is the 95% interval of "
            "the worst case over the clean image and all attacks of the ball."
        ),
        (
            "Of a metric that is best near zero the worst case keeps its sign, so errors to both "
            "sides cancel in the mean: read it beside the attacks."
        ),
    )
    found = [
        _figure(evidence, metric, place)
        for place, metric in enumerate(estimate_rows.declared(evidence), 1)
        if curves(evidence, metric)
    ]
    if not found:
        paragraphs = ("The plan names no attack, so nothing is known of adversarial changes.",)
    return Section("robustness", "Robustness to attacks", paragraphs, tuple(found))


def curves(evidence: Evidence, metric: str) -> list[Curve]:
    """Attack rows and worst rows of one metric, by norm and name, in order of eps."""
    rows = estimate_rows.overall(evidence, metric)
    grouped: dict[tuple[str, str], list[Any]] = {}
    for row in (row for row in rows if row.kind in ("attack", "worst")):
        ball = BALL.search(str(row.probe))
        norm = f"{ball['norm']}{ball['rest']}" if ball else "ball"
        grouped.setdefault((norm, str(row.probe).split("[", maxsplit=1)[0]), []).append(row)
    return [
        Curve(name, norm, tuple(sorted(found, key=lambda row: row.level)))
        for (norm, name), found in grouped.items()
    ]


def _figure(evidence: Evidence, metric: str, place: int) -> Figure:
    found, rows = curves(evidence, metric), estimate_rows.overall(evidence, metric)
    clean = estimate_rows.clean(rows)
    norms = list(dict.fromkeys(curve.norm for curve in found))

    def paint(figure: Canvas) -> None:
        panels = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
        for axes, norm in zip(panels, norms, strict=True):
            _panel(axes, [curve for curve in found if curve.norm == norm], clean)
            axes.set_title(label(norm, 40), loc="left")
            axes.set_xlabel("eps")
            axes.legend(fontsize=7)  # attacks differ from norm to norm
        panels[0].set_ylabel(label(metric, 40))

    name = estimate_rows.described(evidence, metric)
    svg = draw(f"robustness{place}", 1.4 + 3.8 * len(norms), 3.2, paint)
    caption = f"{name} against the size of the ball, clean at eps 0."
    return Figure(svg, caption, _alt(metric, found, clean), _table(name, found, clean))


def _panel(axes: Axes, found: list[Curve], clean: Any) -> None:  # noqa: ANN401
    axes.locator_params(axis="x", nbins=5)
    axes.grid(color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    attacks = [curve for curve in found if curve.name != "worst"]
    for place, curve in enumerate(attacks):
        eps, value, _, _ = _points(curve, clean)
        style: dict[str, Any] = {
            "color": COLOURS[place % 6],
            "marker": MARKERS[place % 6],
            "markersize": 4,
        }
        axes.plot(eps, value, linewidth=1.0, label=curve.titled(24), **style)
    for curve in found:
        if curve.name == "worst":
            eps, value, low, high = _points(curve, clean)
            name = curve.titled(24).replace("worst", "worst case")
            axes.plot(eps, value, color=INK, linewidth=2.0, label=name)
            axes.fill_between(eps, low, high, color=INK, alpha=0.15, linewidth=0)


def _points(curve: Curve, clean: Any) -> tuple[list[float], ...]:  # noqa: ANN401
    rows = [row for row in (clean, *curve.rows) if row is not None and not math.isnan(row.value)]
    return (
        [row.level for row in rows],
        [row.value for row in rows],
        [row.low for row in rows],
        [row.high for row in rows],
    )


def _table(name: str, found: list[Curve], clean: Any) -> Table:  # noqa: ANN401
    listed = [(clean, "any")] if clean is not None else []
    listed += [(row, curve.norm) for curve in found for row in curve.rows]
    rows = tuple(
        (
            label(row.probe),
            label(norm),
            f"{row.level:g}",
            *estimate_rows.cells(row),
            *estimate_rows.losses(row),
            estimate_rows.method(row),
            estimate_rows.reason(row),
        )
        for row, norm in listed
    )
    return Table(f"{name} under attack", COLUMNS, rows, folded=True)


def _alt(metric: str, found: list[Curve], clean: Any) -> str:  # noqa: ANN401
    last = [
        f"{number(curve.rows[-1].value)} at {label(curve.norm)} eps {curve.rows[-1].level:g}"
        f"{f' ({word})' if (word := curve.rows[-1].validity) in DOUBTED else ''}"
        for curve in found
        if curve.name == "worst" and not pd.isna(curve.rows[-1].value)
    ]
    start = "unknown" if clean is None else number(clean.value)
    return f"{label(metric)} goes from {start} clean to {', '.join(last) or 'unknown'}."
