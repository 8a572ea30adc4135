"""The curve of a training as a drawing: `NAME.curve.svg`, beside the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_med.reports.drawing import COLOURS, GREY, LIGHT, MARKERS, draw
from robustbench_med.runfolder import write_text

Row = Mapping[str, float]
WIDTH, HEIGHT = 5.2, 3.0
LOG_FROM = 20
"""Highest loss over the lowest from which the axis is logarithmic."""
MARKED = 40
"""Epochs up to which each one is marked."""
LINES = (("loss", "training"), ("validation_loss", "validation"))


def curve_path(weights: Path) -> Path:
    """Where the curve of a weights file lies."""
    return weights.with_suffix(".curve.svg")


def write_curve(weights: Path, curve: Sequence[Row]) -> Path:
    """Draw the curve beside `weights`; equal curves give equal bytes."""
    path = curve_path(weights)
    write_text(path, curve_svg(curve))
    return path


def curve_svg(curve: Sequence[Row]) -> str:
    """Mean loss per epoch, of the cases learned from and of those held out, as SVG."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _lines(axes, curve)
        _best(axes, curve)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean loss per case")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=LIGHT, linewidth=0.5)
        # Above the axes, where no line can run into it.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)

    text = f'role="img" aria-label="loss of {len(curve)} epochs"'
    return draw("curve", WIDTH, HEIGHT, paint).replace('aria-hidden="true"', text, 1) + "\n"


def _lines(axes: Axes, curve: Sequence[Row]) -> None:
    epochs = [row["epoch"] for row in curve]
    shown = [(key, name) for key, name in LINES if all(key in row for row in curve)]
    values = [row[key] for key, _ in shown for row in curve]
    if min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set_yscale("log")
    for (key, name), colour, marker in zip(shown, COLOURS, MARKERS, strict=False):
        axes.plot(
            epochs, [row[key] for row in curve], color=colour, linewidth=1.4, label=name,
            marker=marker if len(curve) <= MARKED else "", markersize=3.5,
        )  # fmt: skip


def _best(axes: Axes, curve: Sequence[Row]) -> None:
    """Mark the epoch whose weights were kept, where it was chosen."""
    best = curve[-1].get("best_epoch")
    if best is not None:
        kept, dashes = f"kept: epoch {best:.0f}", (0, (3, 3))
        axes.axvline(best, color=GREY, linewidth=1.0, linestyle=dashes, zorder=0, label=kept)
