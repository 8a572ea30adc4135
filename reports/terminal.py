"""The gate's answer for a terminal: at most 80 columns, no colour."""

import textwrap
import unicodedata
from collections.abc import Sequence

from robustbench_med.reports.gate import Judgement, overall_verdict
from robustbench_med.reports.verdict import limit, why
from robustbench_med.reports.wording import label

WIDTH = 80
HEADINGS = ("verdict", "rule", "group", "observed", "limit")
GAP = "  "


def gate_table(judgements: Sequence[Judgement]) -> str:
    """One line per rule and group, then reasons, then the verdict.

    Of what passed only the power is told, where a gap was judged. Of a group the table has the
    values alone, so that they fit; the reasons have it in full.
    """
    rows = [HEADINGS, *(_row(judgement) for judgement in judgements)]
    widths = _widths(rows)
    lines = [
        GAP.join(_fitted(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, GAP.join("-" * width for width in widths))
    reasons = [line for judgement in judgements for line in _reason(judgement)]
    if reasons:
        lines += ["", *reasons]
    return "\n".join([*lines, "", _closing(judgements), ""])


def _row(judgement: Judgement) -> tuple[str, ...]:
    return (
        judgement.outcome,
        label(judgement.rule.id),
        label(judgement.group.partition(" = ")[2] or judgement.group),
        judgement.observed,
        limit(judgement),
    )


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Numbers get what they need, then the group, since a rule may have many; then the rule."""
    widths = [max(columns(row[place]) for row in rows) for place in range(len(HEADINGS))]
    left = WIDTH - len(GAP) * (len(HEADINGS) - 1) - widths[0] - widths[3] - widths[4]
    left = max(left, 12)
    rule = min(widths[1], max(10, left - widths[2]))
    widths[1], widths[2] = rule, min(widths[2], left - rule)
    widths[3] = min(widths[3], WIDTH - 8 - widths[0] - widths[1] - widths[2] - widths[4])
    return widths


def columns(text: str) -> int:
    """How many terminal columns a text takes."""
    return sum(_column(character) for character in text)


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitted(text: str, width: int) -> str:
    if columns(text) > width:
        while columns(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - columns(text))


def _reason(judgement: Judgement) -> list[str]:
    told = judgement.power if judgement.outcome == "pass" else why(judgement)
    if not told:
        return []
    said = f"{label(judgement.rule.id, 40)}, {label(judgement.group, 40)}: {told}"
    wide = columns(said) > len(said)
    return textwrap.wrap(said, WIDTH // 2 if wide else WIDTH, subsequent_indent="  ")


def _closing(judgements: Sequence[Judgement]) -> str:
    outcomes = [judgement.outcome for judgement in judgements]
    counted = ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys(outcomes))
    return f"gate: {overall_verdict(judgements)} ({counted or 'nothing judged'})"
