"""What is proved beside what was attacked, on the same cases in the same ball."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.believed import DOUBTED, with_word
from robustbench_med.reports.document import Evidence, Figure, Part, Section, Table
from robustbench_med.reports.drawing import COLOURS, INK, LIGHT, draw
from robustbench_med.reports.group_figures import group_figures, summed_up
from robustbench_med.reports.group_findings import compare, listing
from robustbench_med.reports.sandwich import Sandwich, sandwiches
from robustbench_med.reports.standing import Families
from robustbench_med.reports.wording import DASH, count, label, number, plain_count

COLUMNS = (
    "Certificate", "Quantity", "What it says", "Value", "95% interval", "Patients", "Cases",
    *estimate_rows.LOSSES, "Interval by", "Note",
)  # fmt: skip
SAYS = {
    "clean": "correct on the images as they are",
    "attacked": "most that can still be correct in the ball; the truth is no better",
    "certified": "least that stays correct in the ball; the truth is no worse",
    "falsified": "a wrong answer was exhibited",
    "undecided": "neither proved nor refuted: not the same as attackable",
    "checked": "proved and checked: derived again from its certificate by the checker",
}
PROVED = "certified"
VIEWS = 2
"""Certificates side by side in a drawing."""
SMOOTHED = "least that stays correct, of the smoothed model, with the stated probability"


def certified(evidence: Evidence) -> Section:
    """One line per certificate: proved share, attacked share, clean share."""
    found = sandwiches(evidence)
    if not found:
        text = "The plan names no certificate, so nothing is proved."
        return Section("certified", "Certified beside attacked", (text,))
    paragraphs = (
        (
            "A certificate proves, for a whole ball, that the true class is kept; the certified "
            "share is a lower limit of the true robust share. An attack exhibits harm; the share"
            " left correct in the worst case is an upper limit. The truth lies between. All "
            "shares of one line are taken over the same cases: those for which the certificate "
            "gave an answer."
        ),
        (
            "A case that is undecided was not proved. That does not mean that it can be "
            "attacked: the proof method may be too coarse."
        ),
        *(_checked(sandwich) for sandwich in found),
    )
    table = _table(found)
    caption = (
        "Certified share (lower limit) and share left correct by the attacks (upper limit), with "
        "95% intervals, on the same cases. The truth lies in the grey stretch between them."
    )
    svg = draw("certified", 7.4, 1.0 + 0.62 * len(found), lambda figure: _paint(figure, found))
    figure = Figure(svg, caption, _alt(found), table)
    parts = tuple(_by_group(evidence, found))
    return Section("certified", "Certified beside attacked", paragraphs, (figure,), parts=parts)


def _by_group(evidence: Evidence, found: list[Sandwich]) -> Iterator[Part]:
    """For whom more and for whom less is proved."""
    if not evidence.manifest["subgroups"]:
        return
    families = Families.of(evidence)
    views = [compare(evidence, families, PROVED, sandwich.probe) for sandwich in found]
    for place in range(0, len(views), VIEWS):
        shown = views[place : place + VIEWS]
        text = (
            "The share proved of all cases that the certificate was asked about, group by group. "
            "Less proved is not more attackable, but it is less that can be promised to a group."
        )
        yield Part(
            f"Share proved by group: {summed_up(shown)}",
            (text,),
            tuple(listing(view) for view in shown),
            tuple(group_figures(evidence, shown, f"proved{place}")),
            folded=not any(view.found for view in shown),
        )


def _checked(sandwich: Sandwich) -> str:
    said = (
        f"{label(sandwich.probe)}: {count(sandwich.cases)} cases compared, of "
        f"{count(sandwich.asked)} asked; {plain_count(sandwich.unanswered)} had no answer and are "
        "left out."
    )
    if sandwich.attacked is None:
        return f"{said} No attack was run in the same ball, so there is no upper limit."
    if sandwich.statistical:
        return (
            f"{said} This certificate holds with a stated probability and is about the smoothed "
            "model, so an attack on the model itself can neither confirm nor refute it."
        )
    return (
        f"{said} Answers found wrong where the proof says they cannot be: {sandwich.broken} (any "
        f"number but 0 would refute the proof). {_whose(sandwich)}"
    )


def _whose(sandwich: Sandwich) -> str:
    """By whom it is proved: whoever doubts the engine can have the rest checked."""
    checked, certified = sandwich.checked, sandwich.certified
    if checked is None:
        return "Proved, engine only: no certificate was kept that could be checked."
    if certified.status == "suppressed" or checked.status == "suppressed":
        return "How much of it is proved and checked is not shown for so few patients."
    return (
        f"Proved and checked: {number(checked.value)}; proved, engine only: "
        f"{number(max(certified.value - checked.value, 0.0))}. The command verify derives what is "
        "checked once more."
    )


def _table(found: list[Sandwich]) -> Table:
    rows = tuple(
        (
            label(sandwich.probe),
            name,
            SMOOTHED
            if sandwich.statistical and name == "certified"
            else SAYS.get(name.partition(" ")[0], DASH),
            *estimate_rows.cells(row),
            *estimate_rows.losses(row),
            estimate_rows.method(row),
            estimate_rows.reason(row),
        )
        for sandwich in found
        for name, row in sandwich.named()
    )
    return Table("Certified, attacked and clean on the same cases", COLUMNS, rows)


def _alt(found: list[Sandwich]) -> str:
    said = [
        ", ".join(f"{name} {number(row.value)}" for name, row in sandwich.named())
        for sandwich in found
    ]
    lines = [f"{label(s.probe)}: {text}" for s, text in zip(found, said, strict=True)]
    return "; ".join(lines) + "."


def _paint(figure: Canvas, found: list[Sandwich]) -> None:
    axes = figure.subplots()
    for height, sandwich in enumerate(found):
        _line(axes, sandwich, height)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(found) - 0.4, -0.6), xlabel="share correct")
    axes.set_yticks(
        range(len(found)),
        [f"{label(s.probe, 30)}\n{count(s.cases)} cases{_doubted(s)}" for s in found],
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    names = dict.fromkeys(axes.get_legend_handles_labels()[1])
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend([handles[n] for n in names], list(names), loc="outside upper center", ncols=3)


def _says(sandwich: Sandwich, name: str) -> str:
    if sandwich.statistical and name == "certified":
        return SMOOTHED
    return SAYS.get(name.partition(" ")[0], DASH)


def _doubted(sandwich: Sandwich) -> str:
    return f"\n{with_word('attacks', sandwich.doubt)}" if sandwich.doubt in DOUBTED else ""


def _line(axes: Axes, sandwich: Sandwich, height: int) -> None:
    low, high = sandwich.certified, sandwich.attacked
    if high is not None and not sandwich.statistical and low.value <= high.value:
        axes.barh(height, high.value - low.value, 0.5, low.value, color=LIGHT)
    _mark(axes, low, height + 0.12, (COLOURS[2], ">", "certified: lower limit"))
    if high is not None:
        _mark(axes, high, height, (COLOURS[1], "<", "attacked: upper limit"))
    if sandwich.clean is not None:
        _mark(axes, sandwich.clean, height - 0.12, (INK, "D", "clean"))


def _mark(axes: Axes, row: Any, height: float, look: tuple[str, str, str]) -> None:  # noqa: ANN401
    colour, marker, name = look
    axes.plot([row.low, row.high], [height, height], color=colour, linewidth=1.2)
    axes.plot([row.value], [height], marker, color=colour, markersize=7, label=name, zorder=3)
