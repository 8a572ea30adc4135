"""Draws what happens to a patient along the chain."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.demo.examples import Example, Image, outlines
from robustbench_med.reports.document import Figure, Table
from robustbench_med.reports.drawing import COLOURS, draw
from robustbench_med.reports.wording import DASH, number

STAGES = ("zero-filled", "total variation", "deep cascade")
STRUCTURES = {1: "left cavity", 2: "left wall", 3: "right cavity"}


def patients_figure(examples: Sequence[Example]) -> Figure:
    """One row per patient: k-space, reconstructions, labels at both moments."""
    columns = ("measured k-space", *STAGES, "labels, ED", "labels, ES")

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots(len(examples), len(columns), squeeze=False)
        for row, example in zip(axes, examples, strict=True):
            _patient(row, example)
        for axis, title in zip(axes[0], columns, strict=True):
            axis.set_title(title)

    found = sum(example.by_rules == example.truth for example in examples)
    return Figure(
        svg=draw("chain", 9.0, 1.55 * len(examples) + 0.3, paint),
        caption=(
            "One patient of each class, a slice near the base third. k-space: logarithm of the "
            "magnitude, black where not acquired. Labels on the deep cascade's image: predicted "
            "(solid) and true (dotted); left cavity, left wall and right cavity in three colours."
        ),
        alt=f"For {found} of {len(examples)} patients the chain ends in the true class.",
        table=_ends(examples),
    )


def enlarged_figure(images: Mapping[str, Image], table: Table) -> Figure:
    """A thick slice, two ways to enlarge it, and the truth."""

    def paint(canvas: Canvas) -> None:
        for axis, (name, image) in zip(
            canvas.subplots(1, len(images)), images.items(), strict=True
        ):
            _show(axis, image)
            axis.set_title(name)

    return Figure(
        svg=draw("enlarged", 9.0, 2.6, paint),
        caption=(
            "Super-resolution: one of the thick slices, the middle thin slice that linear "
            "interpolation and espcn make of its stack, and the true thin slice."
        ),
        alt="Espcn's slice shows edges that interpolation blurs; neither shows all of the truth.",
        table=table,
    )


def _patient(row: Sequence[Axes], example: Example) -> None:
    pictures = [example.kspace, *(example.images[name] for name in STAGES)]
    for axis, picture in zip(row, pictures, strict=False):
        _show(axis, picture)
    for axis, (image, predicted, true) in zip(row[4:], example.labels.values(), strict=True):
        _show(axis, image)
        for label, region in outlines(predicted):
            _outline(axis, region, COLOURS[label - 1], "solid")
        for label, region in outlines(true):
            _outline(axis, region, COLOURS[label - 1], "dotted")
    row[0].set_ylabel(f"{example.truth}")


def _show(axis: Axes, picture: Image) -> None:
    axis.imshow(picture, cmap="gray", vmin=0, vmax=float(picture.max()) or 1.0)
    axis.set_xticks([])
    axis.set_yticks([])


def _outline(axis: Axes, region: Image, colour: str, style: str) -> None:
    if region.any():
        axis.contour(region, levels=[0.5], colors=[colour], linestyles=[style], linewidths=0.9)


def _ends(examples: Sequence[Example]) -> Table:
    rows = tuple(
        (
            example.truth,
            number(example.true.lvef),
            number(example.measured.lvef),
            example.by_rules or DASH,
            example.by_network,
        )
        for example in examples
    )
    columns = ("True class", "True LVEF, %", "Measured LVEF, %", "By the rules", "By lenet")
    return Table("Where the chain ends for each of these patients", columns, rows)
