"""How every number was made, in words, with formulas and sources."""

from collections.abc import Iterator

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.method_texts import COLUMNS, FIGURES, INTERVALS
from robustbench_med.reports.wording import DASH, label

METHODS = ("difference_method", "change_method", "method")
HEADINGS = ("What it is", "Formula", "Source")
PARAGRAPHS = (
    (
        "Patients, not images, are what intervals resample: images of one patient resemble each "
        "other, and counting them as independent makes intervals too narrow."
    ),
    (
        "All intervals are at 95%, each by itself, rounded outward. They speak of patients like "
        "those tested, and not of errors in the reference."
    ),
    (
        "Clean: the images as they are. Attack: the worst image that a search found in the ball;"
        " the result is projected into the ball and scored again by the harness, so an attack "
        "cannot leave it. Worst: per case, the worst of the clean image and all attacks of the "
        "same ball, then averaged; averages over attacks are never used. The harm is no less "
        "than shown."
    ),
    (
        "Shift: the case as another scanner, site or protocol would have measured it. "
        "Certificate: a proof over the whole ball for the share of cases named certified; "
        "undecided means that the proof did not succeed, not that the case can be attacked."
    ),
    (
        "A group is compared with all other patients (value of the group minus value of the rest). "
        "Worse, better and differs need a corrected p-value below 0.05; of what is best near zero "
        "or one, differs means that the group and the others err to different sides. 'No "
        "difference found' needs a gap that could have been found of at most a fifth of the "
        "metric's range (0.2 of a share); without a range, of a quarter of the distance between "
        "the limits of agreement; without these, of half the declared tolerance, or half the "
        "clean value. Otherwise these patients cannot tell."
    ),
    (
        "Verdicts: a floor is kept if the lower limit is at or above it and broken if the upper "
        "limit is below it; a ceiling the other way round. For a metric that is best near zero, "
        "a ceiling bounds its size. A margin is kept if the whole interval of the harm against "
        "the rest is within it, and broken if the whole interval is beyond it."
    ),
)


def methods(evidence: Evidence) -> Section:
    """The methods that this run used, and what each kind of number means."""
    table = evidence.estimates
    used = {str(name) for column in METHODS for name in table[column] if name}
    rows = tuple(
        (label(name), *INTERVALS.get(name, ("Named by the run only", DASH, DASH)))
        for name in sorted(used)
    )
    intervals = Table("Intervals used in this report", ("Interval", *HEADINGS), rows)
    others = Table("Corrections and figures used in this report", ("Method", *HEADINGS),
                   tuple(_others(evidence)))  # fmt: skip
    return Section("methods", "Methods", PARAGRAPHS, (), (intervals, others))


def _others(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    tables = {"estimates": evidence.estimates, "gaps": evidence.gaps, "search": evidence.search}
    for column, (name, title, texts) in COLUMNS.items():
        if tables[name][column].notna().any():
            yield title, *texts
    metrics = [str(metric) for metric in evidence.by_metric]
    for ending, (title, texts) in FIGURES.items():
        if any(metric.endswith(ending) for metric in metrics):
            yield title, *texts
