"""For whom it works worse: every group against all other patients, clean and in the worst case."""

import math
from collections.abc import Sequence

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence, Part, Section, Table
from robustbench_med.reports.group_figures import group_figures, summed_up
from robustbench_med.reports.group_findings import Compared, compare, elsewhere, listing
from robustbench_med.reports.operating_tables import judged_figures
from robustbench_med.reports.probes_shown import (
    called,
    clean_and_worst,
    clean_worst_and_shift,
    worst_cases,
)
from robustbench_med.reports.standing import Families
from robustbench_med.reports.unrecorded import unrecorded
from robustbench_med.reports.wording import label, number
from robustbench_med.reports.worst_groups import worst_groups

READ = (
    (
        "Each group is compared with all other patients, never with the best group: the distance "
        "between best and worst is above zero even where there is none. 'Not recorded' is a group "
        "like any other."
    ),
    (
        "Worse and better are said only where the comparison holds after correction for the number "
        "of groups compared under the same probe, so that with no difference anywhere in 1 of 20 "
        "such families a group would be named by chance. An interval that misses zero is not "
        "enough: among many groups, some do. 'No difference found' is said only where a gap worth "
        "knowing would have been found; otherwise these patients cannot tell."
    ),
    "Groups of fewer than 10 patients are not shown; those of 10 to 29 are drawn hollow.",
)


def subgroups(evidence: Evidence) -> Section:
    """Findings in a table, then words, a forest plot and its numbers per metric."""
    if not evidence.manifest["subgroups"]:
        return Section("subgroups", "Subgroups", ("The plan names no subgroups.",))
    families = Families.of(evidence)
    parts = [
        _part(evidence, families, metric, place)
        for place, metric in enumerate(estimate_rows.compared(evidence), 1)
        if clean_and_worst(evidence, metric)
    ]
    parts += [part for part in (worst_groups(evidence), unrecorded(evidence)) if part]
    short = _in_short(found_groups(evidence))
    return Section("subgroups", "Subgroups", READ, (), (short,), tuple(parts))


def found_groups(evidence: Evidence) -> list[Compared]:
    """How the groups stand, per metric, clean, in the shown worst case, under the hardest shift.

    Of a detection also its rates at the threshold and its AUC.
    """
    if not evidence.manifest["subgroups"]:
        return []
    families = Families.of(evidence)
    return [
        compare(evidence, families, metric, probe)
        for metric in (*estimate_rows.compared(evidence), *judged_figures(evidence))
        for probe in clean_worst_and_shift(evidence, metric)
    ]


def _in_short(views: Sequence[Compared]) -> Table:
    columns = (
        "Metric", "Under", "Who stands out", "Better", "No difference found", "Cannot tell",
        "Too few", "Comparisons",
    )  # fmt: skip
    rows = tuple(
        (
            label(view.metric),
            called(view.probe),
            "; ".join(f"{estimate_rows.group_name(row)} ({view.word(row)})" for row in view.found)
            or ("nobody" if view.tests else "nobody could be compared"),
            *(str(len(view.of(*words))) for words in (
                ("better",), ("no difference found",), ("cannot tell",), ("too few", "no value")
            )),
            str(view.tests),
        )
        for view in views
    )  # fmt: skip
    tones = tuple("warning" if view.found else "" for view in views)
    return Table("Groups in short: how many stand how against all other patients", columns, rows,
                 tones)  # fmt: skip


def _part(evidence: Evidence, families: Families, metric: str, place: int) -> Part:
    drawn = clean_and_worst(evidence, metric)
    views = [compare(evidence, families, metric, probe) for probe in drawn]
    name = estimate_rows.described(evidence, metric)
    every = (*worst_cases(evidence, metric), *clean_worst_and_shift(evidence, metric))
    rest = [probe for probe in dict.fromkeys(every) if probe not in drawn]
    others = [compare(evidence, families, metric, probe) for probe in rest]
    listings = [*(listing(view) for view in views), elsewhere(others)]
    findings = [row for view in [*views, *others] for row in view.found]
    title = f"{name}: {summed_up(views)}"
    margin = views[0].margin
    read = () if math.isnan(margin) else (
        f"'No difference found' is said where a gap of {number(margin)} would have been found.",
    )  # fmt: skip
    return Part(
        title,
        read,
        tuple(each for each in listings if each is not None),
        tuple(group_figures(evidence, views, f"forest{place}")),
        folded=not findings,
    )
