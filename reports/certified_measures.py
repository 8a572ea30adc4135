"""Between which limits clinical measures stay, whatever happens within the certified ball."""

from collections import Counter
from collections.abc import Iterator

from robustbench_med.reports.certified_widths import COLUMNS, Held, held, quantities
from robustbench_med.reports.document import Evidence, Figure, Section, Table
from robustbench_med.reports.limit_bars import VIEWS, bars, limits_figure
from robustbench_med.reports.wording import count, label, plain_count
from robustbench_med.statistics.certain import Certain, certain_measures
from robustbench_med.statistics.slices import EVERYONE, slices_of
from robustbench_med.statistics.table import ANY_FROM

TITLE = "Certified clinical measures"
READ = (
    (
        "Disturb every slice at both phases by anything within the ball, each slice by something "
        "else: the measures that follow from the network's masks stay between these limits. That "
        "is proved of the network's answer, and for this ball only. It does not say that the "
        "answer is right: a network that is wrong stays wrong within its limits. It says nothing "
        "of other scanners, of motion, or of larger disturbances."
    ),
    (
        "That the slices of one heart hang together is not used, so the limits can be wider than "
        "anything that can happen; what attacks of the same ball reached can happen. Volumes are "
        "those of the slices in the cohort; where one between two is left out, or there are fewer "
        "than three, no mass and no diagnosis is given. Thickness and motion of the wall are not "
        "bounded, so rules that read them may turn out either way: a diagnosis may stay open "
        "although its volumes are settled."
    ),
)
METHODS = (
    "Widths are medians over patients; their intervals are percentiles of 2000 resamples of whole "
    "patients (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.3.1). "
    "Shares have Wilson's interval."
)


def certified_measures(evidence: Evidence) -> Section | None:
    """Width of the limits, what cannot change, and who was left out; None without such limits."""
    found = [(name, certain) for name, certain in _certain(evidence) if certain]
    if not found:
        return None
    views = [held(evidence, name, certain) for name, certain in found]
    table = Table(
        "Width of the certified limits and what cannot change, all patients",
        COLUMNS,
        tuple(row for view in views for row in quantities(view, EVERYONE)),
    )
    told = tuple(_told(name, certain) for name, certain in found)
    groups = _by_group(evidence, views)
    return Section("certified_measures", TITLE, (*READ, *told, METHODS), tuple(_figures(views)),
                   (table, *groups))  # fmt: skip


def _certain(evidence: Evidence) -> Iterator[tuple[str, list[Certain]]]:
    for probe in evidence.manifest["probes"]:
        if probe["kind"] == "certificate":
            name = str(probe["name"])
            yield name, certain_measures(evidence.records, evidence.cases, evidence.manifest, name)


def _figures(views: list[Held]) -> Iterator[Figure]:
    drawn = [(view.probe, bars(view.patients)) for view in views if view.in_all >= ANY_FROM]
    drawn = [(probe, found) for probe, found in drawn if found]
    for place in range(0, len(drawn), VIEWS):
        yield limits_figure(drawn[place : place + VIEWS], f"certified-measures{place}")


def _by_group(evidence: Evidence, views: list[Held]) -> tuple[Table, ...]:
    """Groups by what is the same in all cases of a patient; a phase makes no group of patients."""
    kinds = evidence.cases.groupby("patient_id")
    subgroups = [
        columns for columns in evidence.manifest["subgroups"]
        if all(kinds[column].nunique(dropna=False).max() <= 1 for column in columns)
    ]  # fmt: skip
    rows = tuple(
        row
        for view in views
        for columns in subgroups
        for group in slices_of(view.attributes, columns)
        for row in quantities(view, group)
    )
    return (Table("The same by group", COLUMNS, rows, folded=True),) if rows else ()


def _told(name: str, certain: list[Certain]) -> str:
    """For how many there are limits, for how many not and why, and whether a proof is refuted."""
    reasons = Counter(one.left_out for one in certain if one.left_out)
    limited = len(certain) - reasons.total()
    left = "; ".join(f"{plain_count(n)}: {reason}" for reason, n in reasons.most_common())
    said = f"{label(name)}: limits for all {count(limited)} patients."
    if left:
        said = (
            f"{label(name)}: limits for {count(limited)} of {count(len(certain))} patients. "
            f"Without, by reason: {left}."
        )
    if not any(one.reached for one in certain):
        return (
            f"{said} No counts under an attack of the same ball are recorded for all slices; a "
            "dice metric of each class records them."
        )
    outside = sum(one.outside for one in certain)
    return (
        f"{said} Counts under attack outside what is proved: {outside} (any number but 0 would "
        "refute the proof)."
    )
