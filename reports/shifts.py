"""How each metric holds when scanner, site or protocol change."""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Figure, Section, Table
from robustbench_med.reports.drawing import GREY, draw
from robustbench_med.reports.wording import harm, interval, label, number
from robustbench_med.reports.worst_found import EXPLAINED, worst_found

COLUMNS = (
    "Probe", "Severity", "Value", "95% interval", "Patients", "Cases", *estimate_rows.LOSSES,
    "Interval by", "Note",
)  # fmt: skip


def shifts(evidence: Evidence) -> Section:
    """One grid per metric: a line per shift, a column per severity."""
    paragraphs: tuple[str, ...] = (
        (
            "A shift changes the images as physics would, not as an adversary would. Severity 0 is "
            "the clean image. A severity is a setting of the shift: severities of different shifts "
            "are not equally hard."
        ),
    )
    found = [
        _figure(evidence, metric, place)
        for place, metric in enumerate(estimate_rows.declared(evidence), 1)
        if _shifted(evidence, metric)
    ]
    if not found:
        paragraphs = ("The plan names no shift, so nothing is known of changes in acquisition.",)
    tables = worst_found(evidence)
    if tables:
        paragraphs = (*paragraphs, EXPLAINED)
    return Section("shifts", "Acquisition shifts", paragraphs, tuple(found), tables)


def _shifted(evidence: Evidence, metric: str) -> list[Any]:
    return [row for row in estimate_rows.overall(evidence, metric) if row.kind == "shift"]


def _figure(evidence: Evidence, metric: str, place: int) -> Figure:
    everyone = estimate_rows.overall(evidence, metric)
    clean = estimate_rows.clean(everyone)
    grid: dict[str, dict[float, Any]] = {}
    for row in _shifted(evidence, metric):
        grid.setdefault(str(row.probe).rsplit("@", 1)[0], {})[float(row.level)] = row
    if clean is not None:
        grid = {name: {0.0: clean, **rows} for name, rows in grid.items()}
    severities = sorted({level for rows in grid.values() for level in rows})

    def paint(figure: Canvas) -> None:
        _paint_grid(figure.subplots(), grid, severities)

    name = estimate_rows.described(evidence, metric)
    svg = draw(f"shifts{place}", 1.8 + 1.25 * len(severities), 0.8 + 0.5 * len(grid), paint)
    caption = f"{name} by shift and severity, with 95% intervals. Darker is worse."
    alt = f"Grid of {label(metric)}: {len(grid)} shifts by {len(severities)} severities."
    return Figure(svg, caption, alt, _table(name, grid))


def _paint_grid(axes: Axes, grid: dict[str, dict[float, Any]], severities: list[float]) -> None:
    harms = np.array([[_harm(rows.get(s)) for s in severities] for rows in grid.values()])
    least, most = _range(harms)
    colours = mpl.colormaps["cividis_r"]
    for line, rows in enumerate(grid.values()):
        for column, severity in enumerate(severities):
            depth = (harms[line, column] - least) / (most - least)
            shade = "white" if math.isnan(depth) else colours(float(depth))
            _paint_cell(axes, (column, line), rows.get(severity), shade, dark=depth > 0.5)
    axes.set(xlim=(-0.5, len(severities) - 0.5), ylim=(len(grid) - 0.5, -0.5))
    axes.set_xticks(range(len(severities)), [f"{s:g}" if s else "clean" for s in severities])
    axes.set_yticks(range(len(grid)), [_in_lines(name) for name in grid])
    axes.set_xlabel("severity")
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _in_lines(name: str) -> str:
    """A shift's name, and on a line of its own the attack that followed."""
    return "\n+".join(label(part, 26) for part in name.split("+"))


def _harm(row: Any) -> float:  # noqa: ANN401
    """How bad a cell is; NaN where there is nothing to colour."""
    return math.nan if row is None else harm(row.value, row.better)


def _range(harms: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float]:
    known = harms[np.isfinite(harms)]
    if not known.size or known.min() == known.max():
        return (float(known.min()), float(known.min()) + 1) if known.size else (0.0, 1.0)
    return float(known.min()), float(known.max())


def _paint_cell(axes: Axes, at: tuple[int, int], row: Any, shade: Any, *, dark: bool) -> None:  # noqa: ANN401
    column, line = at
    box = mpl.patches.Rectangle(
        (column - 0.48, line - 0.46), 0.96, 0.92, facecolor=shade, edgecolor=GREY, linewidth=0.4
    )
    axes.add_patch(box)
    middle: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if dark else "black"}
    if row is None:
        axes.text(column, line, "not asked", fontsize=7, style="italic", **middle)
        return
    axes.text(column, line - 0.14, number(row.value), fontsize=9, **middle)
    axes.text(column, line + 0.24, interval(row.low, row.high), fontsize=6.5, **middle)


def _table(name: str, grid: dict[str, dict[float, Any]]) -> Table:
    listed = {row.probe: row for rows in grid.values() for row in rows.values()}
    rows = tuple(
        (
            label(row.probe),
            f"{row.level:g}",
            *estimate_rows.cells(row),
            *estimate_rows.losses(row),
            estimate_rows.method(row),
            estimate_rows.reason(row),
        )
        for row in listed.values()
    )
    return Table(f"{name} by shift and severity", COLUMNS, rows, folded=True)
