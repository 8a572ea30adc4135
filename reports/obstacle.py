"""Why an estimate may not be held against a limit at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_med.reports.policy import MIN_PATIENTS, Rule
from robustbench_med.reports.wording import FEW, count


@dataclass(frozen=True)
class Limits:
    """How often each probe failed, and how often is too often.

    Attributes:
        failed: Probe to a sentence, for each probe that failed on too many cases; a worst case
            is listed with the attacks it is taken over.
        share: Greatest share of cases that may fail.
    """

    failed: Mapping[str, str]
    share: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any], failures: pd.DataFrame) -> "Limits":
        """Read both from a run."""
        limit = float(manifest.get("failure_limit", 0.05))
        counts = failure_counts(failures)
        said: dict[str, str] = {}
        for probe in manifest["probes"]:
            lost, asked = counts.get(probe["name"], 0), int(probe["cases"])
            if lost > limit * asked:
                text = f"{probe['name']} failed on {lost} of {asked} cases, over {limit:.1%}"
                said[probe["name"]] = text
                if probe["kind"] == "attack":
                    said.setdefault(f"worst[{probe['ball']}]", text)
        return cls(said, limit)


def failure_counts(failures: pd.DataFrame) -> dict[str, int]:
    """Failed cases per probe; what a component does not support is no failure."""
    real = failures[failures["error"] != "UnsupportedError"]
    return {str(k): int(n) for k, n in real.groupby("probe")["case_id"].nunique().items()}


def obstacle(rule: Rule, row: Any, limits: Limits) -> str | None:  # noqa: ANN401
    """Say what stands in the way of a verdict, or None where nothing does.

    Args:
        rule: What is to be judged.
        row: A row of the table of estimates.
        limits: Of the run.
    """
    if row.status == "suppressed":
        return _reason(row) or f"fewer than {FEW} patients: the value is suppressed"
    if row.status == "undefined" or _absent(row.value):
        return _reason(row) or "no case has a value"
    return _too_few(rule, row) or _losses(row, limits) or _no_interval(rule, row)


def _reason(row: Any) -> str:  # noqa: ANN401
    """Why the table of estimates keeps something back; "" where it does not say."""
    reason = getattr(row, "reason", "")
    return "" if _absent(reason) else str(reason)


def _too_few(rule: Rule, row: Any) -> str | None:  # noqa: ANN401
    if row.patients < rule.min_patients:
        return f"{count(row.patients)} patients, the rule needs {rule.min_patients}"
    # A share of those with a finding rests on fewer patients than the group has.
    if row.status == "not gated" and rule.min_patients >= MIN_PATIENTS:
        return f"{_reason(row) or 'too few patients'}; the rule needs {rule.min_patients}"
    return None


def _losses(row: Any, limits: Limits) -> str | None:  # noqa: ANN401
    if row.probe in limits.failed:
        return limits.failed[row.probe]
    if row.failed > limits.share * (row.cases + row.undefined + row.failed):
        return f"{int(row.failed)} cases failed or are not supported, over {limits.share:.1%}"
    return None


def _no_interval(rule: Rule, row: Any) -> str | None:  # noqa: ANN401
    if rule.bound == "margin":
        return _no_comparison(rule, row)
    if not (_absent(row.low) or _absent(row.high)):
        return None
    return _reason(row) or "no interval could be made"


def _no_comparison(rule: Rule, row: Any) -> str | None:  # noqa: ANN401
    if _absent(row.rest_patients) or row.rest_patients == 0:
        return f"fewer than {FEW} patients outside this group to compare with"
    if row.rest_patients < rule.min_patients:
        return (
            f"{count(row.rest_patients)} patients in the rest, the rule needs {rule.min_patients}"
        )
    if _absent(row.difference_low) or _absent(row.difference_high):
        return "no interval of the difference from the rest could be made"
    return None


def _absent(value: Any) -> bool:  # noqa: ANN401
    return bool(pd.isna(value))
