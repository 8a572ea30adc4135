"""How every number was made, in words, with formulas and sources."""

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import DASH, label

INTERVALS = {
    "Wilson": (
        "Score interval of a share k/n, one case per patient",
        "(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = k/n, z = 1.96",
        "Wilson, J. Am. Stat. Assoc. 1927, 22:209-212",
    ),
    "Rao-Scott Wilson": (
        "Wilson's interval on the effective number of cases, several cases per patient",
        "v = I/(I-1) Σ(kᵢ - mᵢp)² / (Σmᵢ)² over I patients; n_eff = p(1-p)/v, at most Σmᵢ",
        "Rao and Scott, Biometrics 1992, 48:577-585; Obuchowski, Stat. Med. 1998, 17:1495-1507",
    ),
    "Clopper-Pearson": (
        "Exact interval of a share, every patient counted once",
        "[Beta(2.5%; k, n-k+1), Beta(97.5%; k+1, n-k)]",
        "Clopper and Pearson, Biometrika 1934, 26:404-413",
    ),
    "patient bootstrap, percentile": (
        "Whole patients are drawn again with all their cases, 2000 times",
        "the 2.5% and 97.5% quantiles of Σ numerator / Σ denominator over the drawn patients",
        (
            "Davison and Hinkley, Bootstrap Methods, 1997, section 3.8; Efron and Tibshirani, "
            "1993, section 13.3"
        ),
    ),
    "Newcombe": (
        "Difference of two shares, from the Wilson limits of each",
        "d - √((p₁-l₁)² + (u₂-p₂)²), d + √((u₁-p₁)² + (p₂-l₂)²)",
        "Newcombe, Stat. Med. 1998, 17:873-890, method 10",
    ),
    "Newcombe on each side's own limits": (
        "Difference of two values, from the limits of each; used where one side has no spread",
        "as Newcombe, with each side's own limits",
        "Zou and Donner, Stat. Med. 2008, 27:1693-1702",
    ),
}
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
    "A group is compared with all other patients (value of the group minus value of the rest).",
    (
        "Verdicts: a floor is kept if the lower limit is at or above it and broken if the upper "
        "limit is below it; a ceiling the other way round. For a metric that is best near zero, "
        "a ceiling bounds its size. A margin is kept if the whole interval of the harm against "
        "the rest is within it, and broken if the whole interval is beyond it."
    ),
)


def methods(evidence: Evidence) -> Section:
    """The intervals that this run used, and what each kind of number means."""
    table = evidence.estimates
    used = [*table["method"], *table["difference_method"]]
    rows = tuple(
        (label(name), *INTERVALS.get(name, ("Named by the run only", DASH, DASH)))
        for name in sorted({str(name) for name in used if name})
    )
    columns = ("Interval", "What it is", "Formula", "Source")
    shown = Table("Intervals used in this report", columns, rows)
    return Section("methods", "Methods", PARAGRAPHS, (), (shown,))
