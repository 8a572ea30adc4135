"""The table and the figure of docs/certify.md on the ejection fraction, from what was stored."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_med.reports.drawing import COLOURS, INK

Row = dict[str, Any]
RESAMPLES = 10_000


def radii(rows: Sequence[Row]) -> list[float]:
    """Every radius, the smallest first."""
    return sorted({row["eps"] for row in rows})


def at(rows: Sequence[Row], eps: float) -> list[Row]:
    """Patients of one radius, by name."""
    return sorted((row for row in rows if row["eps"] == eps), key=lambda row: str(row["patient"]))


def widths(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Certified and attacked width of each patient, `(2, n)`, percentage points."""
    return np.array([[row[kind][1] - row[kind][0] for row in rows]
                     for kind in ("certified", "attacked")])  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    """In Markdown: medians with 95% intervals of a bootstrap of patients (percentiles)."""
    lines = [
        "| radius | patients | pixels kept | certified width | attacked width | ratio of medians |",
        "|---|---|---|---|---|---|",
    ]
    for eps in radii(rows):
        some = at(rows, eps)
        pixels = 100 * np.mean([row["pixels"] for row in some])
        cells = (
            _cell(widths(some), lambda both: np.median(both[0], axis=-1)),
            _cell(widths(some), lambda both: np.median(both[1], axis=-1)),
            _cell(widths(some), lambda both: np.divide(*np.median(both, axis=-1))),
        )
        lines.append(f"| {eps * 255:g}/255 | {len(some)} | {pixels:.1f}% | {' | '.join(cells)} |")
    return lines


def _cell(both: NDArray[np.float64], of: Callable[[NDArray[np.float64]], Any]) -> str:
    drawn = np.random.default_rng(0).integers(both.shape[1], size=(RESAMPLES, both.shape[1]))
    low, high = np.percentile(of(both[:, drawn]), (2.5, 97.5))
    return f"{of(both):.2f} [{low:.2f}, {high:.2f}]"


def paint(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw a panel for each radius, a line for each patient, in the order of clean values."""
    panels = figure.subplots(1, len(radii(rows)), sharex=True)
    order = {row["patient"]: row["clean"] for row in rows}
    places = {name: place for place, name in enumerate(sorted(order, key=lambda n: order[n]))}
    for axes, eps in zip(np.atleast_1d(panels), radii(rows), strict=True):
        some = at(rows, eps)
        y = [places[row["patient"]] for row in some]
        for kind, width, colour in (("certified", 5.0, COLOURS[5]), ("attacked", 2.2, COLOURS[1])):
            ends = np.array([row[kind] for row in some]).T
            axes.hlines(y, *ends, linewidth=width, color=colour, label=kind)
        clean = [row["clean"] for row in some]
        axes.plot(clean, y, "|", color=INK, markersize=6, label="clean")
        axes.set(title=f"radius {eps * 255:g}/255, {len(some)} patients", yticks=[],
                 xlabel="LV ejection fraction, %", ylim=(-1, len(places)))  # fmt: skip
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
