"""What a cohort can show of its groups, before anything is computed."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq

from robustbench_med.reports.policy import Rule
from robustbench_med.reports.wording import CROSS, count, label, number
from robustbench_med.statistics.power import (
    design_effect,
    detectable_difference,
    share_difference_error,
)
from robustbench_med.statistics.rest import SHOWN_FROM
from robustbench_med.statistics.slices import Slice, slices_of
from robustbench_med.statistics.table import GATED_FROM

SHARE = 0.9
POWER = 0.8
ICC = 0.3
WIDTH, NAMES = 80, 26
LISTED = 3
"""Groups of a subgroup that are too small to be shown and named all the same; more are counted."""


@dataclass(frozen=True)
class Sized:
    """A group of a declared subgroup, and what can be found of it.

    Attributes:
        subgroup: Its attributes.
        group: Their values.
        patients: In the group.
        gap: Smallest difference from the rest that would be found; NaN where none will be shown,
            infinite where none would be found.
        note: What is not shown or not gated, and why; empty where everything is.
    """

    subgroup: str
    group: str
    patients: int
    gap: float
    note: str


@dataclass(frozen=True)
class Sizes:
    """The groups of a cohort, and what the gaps rest on.

    Attributes:
        groups: In the plan's order.
        comparisons: How many different ones Holm's correction is for.
        cases_per_patient: Weighted by cases, as the design effect wants it.
    """

    groups: tuple[Sized, ...]
    comparisons: int
    cases_per_patient: float


def sizes(cases: pd.DataFrame, subgroups: Iterable[Sequence[str]]) -> Sizes:
    """Say of each group how far under the rest's share of 0.9 is found with 80% power.

    Every probe and metric has a Holm family of its own, over the groups with enough patients on
    both sides; a group and its rest ask one question. Cases of one patient are taken to have an
    intraclass correlation of 0.3.

    Args:
        cases: One row per case, with `patient_id` and the attributes.
        subgroups: Attributes, each alone or crossed.
    """
    groups = [group for columns in subgroups for group in slices_of(cases, columns)]
    masks = [group.mask(cases) for group in groups]
    patients = cases["patient_id"].to_numpy(dtype=object)
    people = [(len(set(patients[mask])), len(set(patients[~mask]))) for mask in masks]
    compared = [min(sides) >= SHOWN_FROM for sides in people]
    asked = {
        min(mask.tobytes(), (~mask).tobytes())
        for mask, enough in zip(masks, compared, strict=True)
        if enough
    }
    each = np.unique(patients, return_counts=True)[1]
    crowding = float(np.square(each).sum() / each.sum())
    found = [
        _sized(group, sides, _gap(mask, crowding, len(asked)) if enough else math.nan)
        for group, mask, sides, enough in zip(groups, masks, people, compared, strict=True)
    ]
    return Sizes(tuple(found), len(asked), crowding)


def _gap(mask: NDArray[np.bool_], cases_per_patient: float, comparisons: int) -> float:
    """Solve for the gap whose own standard error it exceeds by enough.

    The group's share is `SHARE` less the gap, so its spread depends on the gap.
    """
    crowding = design_effect(cases_per_patient, ICC)
    rest = share_difference_error(SHARE, math.inf, int((~mask).sum()), crowding)

    def short(gap: float) -> float:
        own = share_difference_error(SHARE - gap, int(mask.sum()), math.inf, crowding)
        return detectable_difference(math.hypot(own, rest), comparisons, power=POWER) - gap

    return float(brentq(short, 0.0, SHARE)) if short(SHARE) < 0 else math.inf


def _sized(group: Slice, people: tuple[int, int], gap: float) -> Sized:
    own, rest = people
    if own < SHOWN_FROM:
        note = f"fewer than {SHOWN_FROM} patients: will not be shown"
    elif rest < SHOWN_FROM:
        note = f"fewer than {SHOWN_FROM} others to compare with"
    else:
        few = min(own, rest) < GATED_FROM
        note = f"{SHOWN_FROM} to {GATED_FROM - 1}: shown, not gated" if few else ""
    return Sized(group.subgroup, group.group, own, gap, note)


def lines(found: Sizes) -> list[str]:
    """Put it into lines of at most 80 columns; none where no subgroup is declared."""
    if not found.groups:
        return []
    told = [f"  {'group':<{NAMES}} patients  smallest gap found with {POWER:.0%} power"]
    for subgroup in dict.fromkeys(group.subgroup for group in found.groups):
        told += [f"  {label(subgroup, WIDTH - 2)}", *_of(subgroup, found.groups)]
    return [*told, *_assumptions(found)]


def _of(subgroup: str, groups: Iterable[Sized]) -> list[str]:
    """A line for each group; of many that are too small to be shown only how many."""
    own = [group for group in groups if group.subgroup == subgroup]
    small = [group for group in own if group.patients < SHOWN_FROM]
    if len(small) <= LISTED:
        return [_line(group) for group in own]
    kept = [_line(group) for group in own if group.patients >= SHOWN_FROM]
    return [
        *kept,
        f"    {len(small)} groups of fewer than {SHOWN_FROM} patients: will not be shown",
    ]


def out_of_reach(found: Sizes, patients: int, rules: Iterable[Rule]) -> list[str]:
    """Say which rules of a policy will be undecided for want of patients.

    Args:
        found: Groups of the cohort.
        patients: In all.
        rules: Of the policy.
    """
    told = []
    for rule in rules:
        asked = [group for group in found.groups if _judges(rule, group)]
        sizes = {"all patients": patients} if not rule.subgroup else {
            f"{group.subgroup} = {group.group}": group.patients for group in asked
        }  # fmt: skip
        few = [f"{label(name, 40)} ({count(n)})" for name, n in sizes.items()
               if n < rule.min_patients]  # fmt: skip
        if few:
            more = f" and {len(few) - LISTED} more" if len(few) > LISTED else ""
            told.append(
                f"policy: rule {rule.id!r} needs {rule.min_patients} patients, so it will be "
                f"undecided for {', '.join(few[:LISTED])}{more}"
            )
    return told


def _judges(rule: Rule, group: Sized) -> bool:
    same = set(group.subgroup.split(CROSS)) == set(rule.subgroup)
    return same and rule.group in (None, group.group)


def _line(group: Sized) -> str:
    told = [] if math.isnan(group.gap) else [_told(group.gap)]
    told += [group.note] if group.note else []
    name = f"  {label(group.group, NAMES - 2)}"
    return f"  {name:<{NAMES}} {count(group.patients):>8}  {'; '.join(told)}"


def _told(gap: float) -> str:
    return number(gap) if math.isfinite(gap) else "none"


def _assumptions(found: Sizes) -> list[str]:
    text = (
        f"Gaps are how far a group is under the rest's share of {SHARE:g}, at Holm's level for "
        f"{found.comparisons} comparison{'' if found.comparisons == 1 else 's'}."
    )
    text += (
        " A rate among those with a finding, as sensitivity, has fewer patients behind it: its gap "
        "is larger."
    )
    if found.cases_per_patient > 1:
        text += (
            f" Cases of one patient ({found.cases_per_patient:.3g} here) are taken to resemble "
            f"each other (intraclass correlation {ICC:g}): the more they do, the larger the gap "
            "must be."
        )
    return textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")
