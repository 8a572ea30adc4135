"""How a group stands against all other patients, in one word that the figures bear out."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.rows import (
    FAILURE,
    base,
    clean,
    difference,
    group_name,
    overall,
    setting,
    valued,
)
from robustbench_med.reports.wording import count, number, p_value, people
from robustbench_med.statistics.comparison import Difference
from robustbench_med.statistics.power import detectable_difference
from robustbench_med.statistics.reading import asked_cases
from robustbench_med.statistics.slices import slices_of

Word = Literal[
    "worse", "better", "differs", "hurt more", "hurt less", "moved more", "moved less",
    "moved otherwise", "no difference found", "cannot tell", "too few", "no value",
]  # fmt: skip
FOUND = ("worse", "differs", "hurt more", "moved more", "moved otherwise")
"""Words for which a reader should stop."""
LEVEL = 0.05
SHARE_MARGIN = 0.2
RATIO_MARGIN = 0.5
SHARES = (
    FAILURE, ".sensitivity", ".specificity", ".ppv", ".npv", ".auc", "certified", "falsified",
    "undecided",
)  # fmt: skip
"""Ends of names of what lies between 0 and 1."""
BEST = {"zero": 0.0, "one": 1.0}


def standing(row: Any, margin: float) -> Word:  # noqa: ANN401 (a row of the table of estimates)
    """Say how a group stands.

    Worse, better and differs are claims: the comparison holds after Holm's correction for all
    groups compared under the probe. "No difference found" is said only where a gap of the
    margin would have been found; otherwise these patients cannot tell.

    Args:
        row: Of a group.
        margin: Gap that must be findable for its absence to mean anything, from `margin`.
    """
    if row.p_holm < LEVEL:
        return _side(row.value, row.rest_value, row.better)
    unknown: Word = "no value" if math.isnan(row.value) else "cannot tell"
    return _undecided(row, row.p_holm, unknown, enough=row.detectable <= margin)


def changing(row: Any, margin: float, tests: int) -> Word:  # noqa: ANN401
    """Say whether a probe does more to the group than to the rest.

    Hurt more: the value falls farther behind its clean one than the rest's does. Of what is best
    near zero or one no direction is harm; moved more: in the same direction, farther.

    Args:
        row: Of a group under a probe.
        margin: As for `standing`.
        tests: Comparisons corrected for together.
    """
    if not row.interaction_p_holm < LEVEL:
        unknown: Word = "no value" if math.isnan(row.change) else "cannot tell"
        enough = findable_change(row, tests) <= margin
        return _undecided(row, row.interaction_p_holm, unknown, enough=enough)
    if row.better not in BEST:
        return "hurt more" if (row.interaction < 0) == (row.better == "higher") else "hurt less"
    own, other = row.change, row.change - row.interaction
    if own * other < 0:
        return "moved otherwise"
    return "moved more" if abs(own) > abs(other) else "moved less"


def findable_change(row: Any, tests: int) -> float:  # noqa: ANN401
    """Least difference of changes that these patients would show, as `detectable` has it."""
    if math.isnan(row.interaction_low) or not tests:
        return math.nan
    found = Difference(
        row.interaction, row.interaction_low, row.interaction_high, "", row.interaction_p
    )
    return detectable_difference(found.error, tests)


def _undecided(row: Any, p: float, unknown: Word, *, enough: bool) -> Word:  # noqa: ANN401
    if row.status == "suppressed":
        return "too few"
    if math.isnan(p):
        return unknown
    return "no difference found" if enough else "cannot tell"


def _side(value: float, rest: float, better: str) -> Word:
    """The far or the near side of the rest; where the best lies between, neither."""
    if better not in BEST:
        return "worse" if (value < rest) == (better == "higher") else "better"
    own, other = value - BEST[better], rest - BEST[better]
    if own * other < 0:
        return "differs"
    return "worse" if abs(own) > abs(other) else "better"


def margin(evidence: Evidence, metric: str) -> float:
    """Gap that must be findable before "no difference found" is said of a metric.

    A fifth of the range where values have one (0.2 of a share); half for what is best near one;
    for what is best near zero a quarter of the distance between the limits of agreement, about
    one standard deviation of the patients; else half of the declared tolerance; else half of the
    clean value of all patients.
    """
    row = clean(overall(evidence, metric))
    own = setting(evidence, metric, "limits") if base(evidence, metric) == metric else None
    limits = (0.0, 1.0) if metric.endswith(SHARES) else own
    ends = [_clean_value(evidence, f"{base(evidence, metric)}.{end}") for end in AGREEMENT]
    value = math.nan if row is None else abs(row.value)
    known = (
        SHARE_MARGIN * (float(limits[1]) - float(limits[0])) if limits else math.nan,
        RATIO_MARGIN if row is not None and row.better == "one" else math.nan,
        (ends[1] - ends[0]) / 4,
        abs(float(setting(evidence, metric, "tolerance") or math.nan)) / 2,
        value / 2,
    )
    return next((found for found in known if math.isfinite(found)), math.nan)


AGREEMENT = ("loa_low", "loa_high")


def _clean_value(evidence: Evidence, metric: str) -> float:
    row = clean(overall(evidence, metric))
    return math.nan if row is None else float(row.value)


@dataclass(frozen=True)
class Families:
    """How many distinct comparisons stand behind each corrected p-value.

    Attributes:
        tests: By subgroup and group, what is compared; a group and its complement are one test.
    """

    tests: Mapping[tuple[str, str], bytes]

    @classmethod
    def of(cls, evidence: Evidence) -> "Families":
        """Find which groups of the run part the cases alike."""
        cases = asked_cases(evidence.records, evidence.cases, evidence.failures)
        found = {}
        for columns in evidence.manifest["subgroups"]:
            for group in slices_of(cases, columns):
                mask = group.mask(cases)
                found[group.subgroup, group.group] = min(mask.tobytes(), (~mask).tobytes())
        return cls(found)

    def size(self, rows: Iterable[Any], p: str = "p_holm") -> int:
        """Comparisons corrected for together, given the groups' rows under one probe."""
        names = [(str(row.subgroup), str(row.group)) for row in rows
                 if not math.isnan(getattr(row, p))]  # fmt: skip
        return len({self.tests.get(name, name) for name in names})


def against(row: Any, tests: int) -> str:  # noqa: ANN401
    """A found difference in a sentence, with all that it rests on."""
    return (
        f"{group_name(row)}: {valued(row)}, {people(row.patients)}, against "
        f"{number(row.rest_value)} in the {count(row.rest_patients)} other patients; difference "
        f"{difference(row)}; corrected for {comparisons(tests)}, {p_value(row.p_holm)}."
    )


def comparisons(tests: int) -> str:
    """`12 comparisons`."""
    return f"{tests} comparison{'' if tests == 1 else 's'}"
