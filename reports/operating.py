"""Operating point and calibration: what a clinician meets where a finding is called or not."""

from collections.abc import Iterator

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.calibrated import calibration, in_words
from robustbench_med.reports.case_scores import CaseScores, case_scores
from robustbench_med.reports.document import Evidence, Figure, Listing, Part, Section, Table
from robustbench_med.reports.forest import forest, lines_of, pages, value_panel
from robustbench_med.reports.group_findings import Compared, compare, listing
from robustbench_med.reports.operating_tables import (
    JUDGED,
    NAMES,
    detections,
    rates,
    under_stress,
)
from robustbench_med.reports.probes_shown import under
from robustbench_med.reports.reliability import reliability_figure
from robustbench_med.reports.roc import roc_figure
from robustbench_med.reports.standing import Families
from robustbench_med.reports.wording import label, number

PREVALENCE = (
    "The predictive values depend on how common the finding is: they hold for a share of cases "
    "with the finding as in these patients, and differ between groups for that reason alone. "
    "Sensitivity and specificity do not depend on it."
)


def operating(evidence: Evidence) -> Section | None:
    """A part per detection metric; None where the run has none."""
    found = detections(evidence)
    if not found:
        return None
    families = Families.of(evidence)
    parts = [
        part
        for place, metric in enumerate(found, 1)
        for part in _parts(evidence, families, metric, place)
    ]
    return Section("operating", "Operating point and calibration", (PREVALENCE,),
                   parts=tuple(parts))  # fmt: skip


def _parts(evidence: Evidence, families: Families, metric: str, place: int) -> Iterator[Part]:
    finding = estimate_rows.setting(evidence, metric, "label")
    of = f"{label(metric)}: {label(finding, 40)}" if finding else label(metric)
    scores = case_scores(evidence, metric)
    judged = [f"{metric}.{name}" for name in JUDGED]
    views = [compare(evidence, families, m, "clean") for m in judged if len(evidence.of_metric(m))]
    figures = [*_forests(evidence, views, f"point{place}", scores),
               *_curves(evidence, metric, scores, f"roc{place}")]  # fmt: skip
    listings = tuple(_named(listing(view), view.metric) for view in views)
    yield Part(f"{of}, at the operating point", (_threshold(evidence, metric),), listings,
               tuple(figures), under_stress(evidence, metric))  # fmt: skip
    drawn = reliability_figure(evidence, metric, scores, f"reliability{place}") if scores else None
    table = calibration(evidence, metric)
    if table.rows:
        yield Part(f"{of}, calibration", (), (in_words(evidence, metric),),
                   (drawn,) if drawn else (), (table,))  # fmt: skip


def _threshold(evidence: Evidence, metric: str) -> str:
    threshold = estimate_rows.setting(evidence, metric, "threshold")
    source = estimate_rows.setting(evidence, metric, "threshold_from")
    if threshold is None:
        return (
            "No threshold was fixed before the test, so there is no sensitivity, specificity or "
            "predictive value: one chosen on these patients would flatter. The AUC needs none."
        )
    where = {"plan": "the plan", None: "not said"}.get(source, label(source, 300))
    return (
        f"A case is called positive from a probability of {number(float(threshold))} on, for every "
        f"group alike. The threshold was fixed beforehand; source: {where}."
    )


def _named(found: Listing, metric: str) -> Listing:
    name = NAMES[metric.rpartition(".")[2]]
    return Listing(f"{name}, {found.title[:1].lower()}{found.title[1:]}", found.lines)


def _forests(
    evidence: Evidence, views: list[Compared], name: str, scores: CaseScores | None
) -> Iterator[Figure]:
    """Rates by group with their intervals; beneath, the table of the operating point."""
    if not views:
        return
    clean = {view.metric: evidence.of_metric(view.metric) for view in views}
    clean = {metric: table[table["kind"] == "clean"] for metric, table in clean.items()}
    metric = views[0].metric.rpartition(".")[0]
    for page, part in enumerate(pages(clean[views[0].metric]), 1):
        lines = lines_of(part)
        panels = [
            value_panel(
                NAMES[view.metric.rpartition(".")[2]], view.metric, clean[view.metric],
                {(str(r.subgroup), str(r.group)): word for r, word in view.groups},
            )
            for view in views
        ]  # fmt: skip
        suffix = f", part {page}" if page > 1 else ""
        caption = (
            f"{label(metric)} on clean images by group{suffix}, with 95% intervals. Beside each "
            "value stand the patients behind it: those with the finding for the sensitivity, "
            "those without for the specificity."
        )
        alt = f"Forest plot of sensitivity, specificity and AUC of {label(metric)}{suffix}."
        table = rates(evidence, metric, scores, set(lines), suffix)
        yield Figure(forest(f"{name}-{page}", lines, panels), caption, alt, table)


def _curves(
    evidence: Evidence, metric: str, scores: CaseScores | None, name: str
) -> Iterator[Figure]:
    svg = roc_figure(evidence, metric, scores, name) if scores else None
    if svg is None:
        return
    caption = (
        f"{label(metric)} on clean images: ROC curves of groups with at least 10 patients with and "
        "10 without the finding. The marks stand where the fixed threshold puts each group: the "
        "same threshold may mean another sensitivity in another group."
    )
    rows = tuple(
        (
            estimate_rows.group_name(row), *estimate_rows.cells(row), *estimate_rows.losses(row),
            estimate_rows.method(row), estimate_rows.reason(row),
        )
        for row in under(evidence, f"{metric}.auc", "clean")
    )  # fmt: skip
    columns = ("Group", "AUC", "95% interval", "Patients", "Cases", *estimate_rows.LOSSES,
               "Interval by", "Note")  # fmt: skip
    table = Table(f"Area under the ROC curve of {label(metric)}", columns, rows, folded=True)
    yield Figure(svg, caption, f"ROC curves of {label(metric)} by group.", table)
