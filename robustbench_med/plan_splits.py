"""The splits that a plan names besides the one it tests: what for, and which may not be."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_med.components import find
from robustbench_med.errors import RobustbenchMedError, raise_together
from robustbench_med.plan_fields import Fields

TRAINED_ON = "train"


@dataclass(frozen=True)
class Calibration:
    """How `rbmed train` fixes the threshold of each metric that has one.

    Attributes:
        split: Whose cases decide; neither those trained on nor those tested.
        sensitivity: Least share of the positive cases that the threshold must find.
        specificity: Least share of the negative cases that it must leave out; one of the two.
    """

    split: str
    sensitivity: float | None = None
    specificity: float | None = None

    def __post_init__(self) -> None:
        problems = []
        if not _is_name(self.split):
            problems.append(f"split: expected the name of a split, got {self.split!r}")
        given = [share for share in (self.sensitivity, self.specificity) if share is not None]
        if len(given) != 1:
            got = "both" if given else "neither"
            problems.append(f"expected exactly one of sensitivity and specificity, got {got}")
        problems += [
            f"expected a sensitivity or specificity over 0 and under 1, got {share!r}"
            for share in given
            if not _is_inner_share(share)
        ]
        raise_together(problems)

    @property
    def rule(self) -> str:
        """The rule in words: "sensitivity at least 0.9"."""
        if self.sensitivity is not None:
            return f"sensitivity at least {self.sensitivity:.10g}"
        return f"specificity at least {self.specificity:.10g}"


def read_calibration(fields: Fields, tested: str | None, *, trains: bool) -> Calibration | None:
    """Read the table `calibrate`, telling problems; None where there is none or it is wrong.

    Args:
        fields: Of the plan.
        tested: The split that the plan tests.
        trains: Whether the plan has a table `train`.
    """
    if not fields.has("calibrate"):
        return None
    table = fields.table("calibrate")
    settings = table.rest()
    found = len(fields.problems)
    table.attempt(Calibration, settings)
    split = settings.get("split")
    if split == TRAINED_ON:
        table.tell(f"split: {split!r} is trained on: its cases fit too well; name another")
    elif split is not None and split == tested:
        table.tell(f"split: {split!r} is tested: a threshold chosen on it flatters; name another")
    if not trains:
        table.tell("[train] is missing: rbmed train is what fixes the threshold")
    return Calibration(**settings) if len(fields.problems) == found else None


def read_against(fields: Fields, use: str, tested: str | None) -> str | None:
    """Read the split that the tested one is held against, telling problems."""
    name: str | None = fields.text("against", None)
    if not name:
        return None
    if not takes_split(use):
        fields.tell(f"against: the cohort {use!r} has no setting 'split'")
    elif tested is None:
        fields.tell("against: all cases are tested; name the tested ones: split, in [cohort]")
    elif name == tested:
        fields.tell(f"against: {name!r} is the split that is tested; name another")
    return name


def tested_split(use: str, settings: Mapping[str, Any]) -> str | None:
    """The split that a plan tests, by its cohort's settings or default; None for all cases."""
    named = settings.get("split")
    if named is not None:
        return str(named)
    try:
        default = inspect.signature(find("cohorts", use)).parameters["split"].default
    except (RobustbenchMedError, KeyError):
        return None
    return default if isinstance(default, str) else None


def takes_split(use: str) -> bool:
    """Whether a cohort can be asked for a split; True of one that cannot be found."""
    try:
        taken = inspect.signature(find("cohorts", use)).parameters
    except RobustbenchMedError:
        return True
    return "split" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values())


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_inner_share(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < float(value) < 1  # type: ignore[arg-type]
