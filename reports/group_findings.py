"""What the comparisons of groups found, in plain words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_med.reports.document import Evidence, Listing
from robustbench_med.reports.probes_shown import called, heading, under
from robustbench_med.reports.rows import difference, group_name
from robustbench_med.reports.standing import (
    FOUND,
    Families,
    Word,
    against,
    comparisons,
    margin,
    standing,
)
from robustbench_med.reports.wording import FEW, number, p_value

NAMES = 8
"""Groups named in one line; the table has them all."""
FEW_NAMES = 4
"""Likewise of groups of which nothing can be said."""


@dataclass(frozen=True)
class Compared:
    """The groups of a run under one metric and one probe.

    Attributes:
        metric: Name.
        probe: Name.
        groups: Rows of the table of estimates, each with how the group stands.
        tests: Comparisons corrected for together.
        margin: Gap that must be findable before "no difference found" is said.
    """

    metric: str
    probe: str
    groups: tuple[tuple[Any, Word], ...]
    tests: int
    margin: float

    def of(self, *words: str) -> list[Any]:
        """Rows of the groups that stand so."""
        return [row for row, word in self.groups if word in words]

    @property
    def found(self) -> list[Any]:
        """Rows of the groups for which a reader should stop."""
        return self.of(*FOUND)

    def word(self, row: Any) -> str:  # noqa: ANN401
        """How one group stands; empty for all patients."""
        known = {(r.subgroup, r.group): word for r, word in self.groups}
        return known.get((row.subgroup, row.group), "")


def compare(evidence: Evidence, families: Families, metric: str, probe: str) -> Compared:
    """Say of every group how it stands against all other patients."""
    limit = margin(evidence, metric)
    rows = [row for row in under(evidence, metric, probe) if row.subgroup]
    told = tuple((row, standing(row, limit)) for row in rows)
    return Compared(metric, probe, told, families.size(rows), limit)


def listing(compared: Compared) -> Listing:
    """Who does worse, who does not, and of whom these patients cannot tell."""
    tests = compared.tests
    lines: list[tuple[str, str]] = [
        (word, against(row, tests)) for row, word in compared.groups if word in FOUND
    ]
    if not lines:
        lines.append(("", nobody(tests)))
    spoken: list[tuple[str, Callable[[Any], str]]] = [
        ("better", lambda row: f"{difference(row)}, {p_value(row.p_holm)}"),
        ("no difference found", lambda row: f"{number(row.detectable)}"),
        ("cannot tell", _too_large),
        ("too few", _nothing),
        ("no value", _nothing),
    ]
    for word, note in spoken:
        rows = compared.of(word)
        if rows:
            most = FEW_NAMES if note is _nothing else NAMES
            lines.append((word, _MEANS[word].format(named(rows, note, most))))
    return Listing(heading(compared.probe), tuple(lines))


def nobody(tests: int) -> str:
    """Said where no group stands out, or none could be compared."""
    if not tests:
        return "No group could be compared with all others."
    return f"No group stands out ({comparisons(tests)})."


def headline(views: Sequence[tuple[str, int, int]]) -> str:
    """How many groups stand out under each probe; views are probe, groups found, comparisons."""
    return "; ".join(f"{called(probe)}, {_how_many(found, tests)}" for probe, found, tests in views)


def _how_many(found: int, tests: int) -> str:
    if not tests:
        return "no group could be compared"
    return f"{found or 'no'} group{' stands' if found < 2 else 's stand'} out"


_MEANS = {
    "better": "{} (difference from all other patients).",
    "no difference found": (
        "{}. In brackets the gap that would have been found with 80% power: one of that size or "
        "more is unlikely."
    ),
    "cannot tell": (
        "{}. In brackets the gap that could have been found: these patients cannot tell of any "
        "smaller one."
    ),
    "too few": f"{{}}; fewer than {FEW} patients.",
    "no value": "{}.",
}


def named(rows: Sequence[Any], note: Callable[[Any], str], most: int = NAMES) -> str:
    """Groups with a note in brackets each, so many as can be read."""
    texts = []
    for row in rows[:most]:
        said = note(row)
        texts.append(f"{group_name(row)} ({said})" if said else group_name(row))
    more = len(rows) - most
    return "; ".join([*texts, *([f"and {more} more"] if more > 0 else [])])


def _too_large(row: Any) -> str:  # noqa: ANN401
    if not math.isnan(row.detectable):
        return f"above {number(row.detectable)}"
    few_in_rest = bool(pd.isna(row.rest_patients)) or row.rest_patients < FEW
    return f"fewer than {FEW} others" if few_in_rest else "no interval"


def _nothing(row: Any) -> str:  # noqa: ANN401, ARG001
    return ""


def elsewhere(others: Sequence[Compared]) -> Listing | None:
    """Who is found worse under the probes that are not drawn; None if there are none."""
    if not others:
        return None
    lines = tuple(("", f"{heading(other.probe)}: {_briefly(other)}") for other in others)
    return Listing("Other worst cases, and the hardest shift", lines)


def _briefly(compared: Compared) -> str:
    if not compared.found:
        none = nobody(compared.tests)
        return f"{none[:1].lower()}{none[1:]}"

    def said(row: Any) -> str:  # noqa: ANN401
        return f"{compared.word(row)}, {difference(row)}, {p_value(row.p_holm)}"

    return f"{named(compared.found, said)}; corrected for {comparisons(compared.tests)}."
