"""For whom an attack or a shift hurts more: what it changes in each group and in all others."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.change_figures import (
    Changed,
    change,
    change_figures,
    changed,
    interaction,
    summed_up,
)
from robustbench_med.reports.document import Evidence, Listing, Part, Section
from robustbench_med.reports.group_findings import FEW_NAMES, NAMES, named, nobody
from robustbench_med.reports.probes_shown import hardest_shift, heading, shown_worst
from robustbench_med.reports.standing import Families, comparisons, findable_change
from robustbench_med.reports.wording import FEW, count, number, p_value

READ = (
    (
        "The change is the value under the attack or shift minus the clean value of the same "
        "patients. A group is hurt more where it loses more than all other patients do. A group "
        "that is worse on clean images need not be hurt more, and the other way round."
    ),
    (
        "Said only where it holds after correction for the groups compared under the same probe. "
        "The correction is not for the number of probes: of twenty probes that hurt everybody "
        "alike, one would be expected to name a group by chance."
    ),
)


def changes(evidence: Evidence) -> Section | None:
    """A part per metric; None where no subgroup is named or nothing changes the images."""
    kinds = {probe["kind"] for probe in evidence.manifest["probes"]}
    if not evidence.manifest["subgroups"] or not kinds & {"attack", "shift"}:
        return None
    families = Families.of(evidence)
    made = (
        _part(evidence, families, metric, place)
        for place, metric in enumerate(estimate_rows.compared(evidence), 1)
    )
    parts = tuple(part for part in made if part is not None)
    return Section("changes", "For whom an attack or a shift hurts more", READ, parts=parts)


def _part(evidence: Evidence, families: Families, metric: str, place: int) -> Part | None:
    probes = [p for p in (shown_worst(evidence, metric), hardest_shift(evidence, metric)) if p]
    if not probes:
        return None
    rows = [row for row in estimate_rows.overall(evidence, metric)
            if row.kind in ("worst", "shift") and row.probe not in probes]  # fmt: skip
    shown = [changed(evidence, families, metric, probe) for probe in probes]
    others = [changed(evidence, families, metric, str(row.probe)) for row in rows]
    found = [pair for view in (*shown, *others) for pair in view.found]
    name = estimate_rows.described(evidence, metric)
    return Part(
        f"{name}: {summed_up(shown)}",
        (),
        (*(_listing(view) for view in shown), *_elsewhere(others)),
        tuple(change_figures(evidence, shown, f"changes{place}")),
        folded=not found,
    )


def _listing(view: Changed) -> Listing:
    lines: list[tuple[str, str]] = [(word, _sentence(row, view.tests)) for row, word in view.found]
    if not lines:
        lines.append(("", nobody(view.tests)))

    def gap(row: Any) -> str:  # noqa: ANN401
        size = findable_change(row, view.tests)
        return "no interval" if math.isnan(size) else number(size)

    for word, said in (
        ("hurt less", "{}."),
        ("moved less", "{}."),
        (
            "no difference found",
            "{}. In brackets the difference of changes that would have been found with 80% power.",
        ),
        ("cannot tell", "{}. In brackets the least difference of changes that could be found."),
        ("too few", f"{{}}; fewer than {FEW} patients."),
    ):
        rows = [row for row, own in view.groups if own == word]
        if rows:
            sized = word in ("no difference found", "cannot tell")
            note, most = (gap, NAMES) if sized else (_nothing, FEW_NAMES)
            lines.append((word, said.format(named(rows, note, most))))
    return Listing(f"{heading(view.probe)}, against clean images", tuple(lines))


def _nothing(row: Any) -> str:  # noqa: ANN401, ARG001
    return ""


def _sentence(row: Any, tests: int) -> str:  # noqa: ANN401
    return (
        f"{estimate_rows.group_name(row)}: changed by {change(row)}, n={count(row.patients)}, "
        f"against {number(row.change - row.interaction)} in the {count(row.rest_patients)} other "
        f"patients; difference of the changes {interaction(row)}; corrected for "
        f"{comparisons(tests)}, {p_value(row.interaction_p_holm)}."
    )


def _elsewhere(others: Sequence[Changed]) -> Iterator[Listing]:
    """The probes that are not shown: who stands out under them, and how many name nobody."""
    if not others:
        return
    lines = [
        ("", f"{heading(view.probe)}: {named([row for row, _ in view.found], _briefly)}.")
        for view in others
        if view.found
    ]
    silent = sum(not view.found for view in others)
    if silent:
        lines.append(("", f"Under {silent} of {len(others)} others no group stands out."))
    yield Listing("Other worst cases and shifts", tuple(lines))


def _briefly(row: Any) -> str:  # noqa: ANN401
    return f"{interaction(row)}, {p_value(row.interaction_p_holm)}"
