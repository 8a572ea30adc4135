"""Holds a run against a policy: pass, fail, or undecided, by whole intervals.

A limit is kept only if the whole interval keeps it, and broken only if the whole interval
breaks it. Everything between, and everything that rests on too little, is undecided.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Protocol

import pandas as pd

from robustbench_med.components import suggest
from robustbench_med.errors import IncompleteError, raise_together
from robustbench_med.reports.believed import with_word
from robustbench_med.reports.obstacle import Limits, obstacle
from robustbench_med.reports.policy import Policy, Rule, Waiver
from robustbench_med.reports.settling import found_with, judged_interval, settled_by
from robustbench_med.reports.wording import CROSS, DASH, count, estimate, interval, people

Verdict = Literal["pass", "fail", "undecided"]
MASKED = "the attack is masked: that it found so little is no evidence"


class Findings(Protocol):
    """What is judged: a `Run`, or a report's `Evidence`."""

    @property
    def manifest(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def estimates(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def failures(self) -> pd.DataFrame: ...  # noqa: D102


@dataclass(frozen=True)
class Judgement:
    """What one rule says of one group.

    Attributes:
        rule: The rule.
        group: "all", or attribute and value: "sex = F".
        verdict: By the interval alone, before any waiver.
        observed: The number judged, with its interval and patients, in words.
        reason: Why, in words, with what is undefined or failed.
        waiver: The waiver in force, if any.
        power: Which gap the patients would have shown, in words; empty where none is judged.
    """

    rule: Rule
    group: str
    verdict: Verdict
    observed: str
    reason: str
    waiver: Waiver | None = None
    power: str = ""

    @property
    def outcome(self) -> Literal["pass", "fail", "undecided", "waived", "warning"]:
        """The verdict in the light of a waiver, and of a rule that only warns."""
        if self.verdict == "pass":
            return "pass"
        if self.waiver is not None:
            return "waived"
        warns = self.verdict == "fail" and self.rule.severity == "warn"
        return "warning" if warns else self.verdict

    @property
    def counts(self) -> bool:
        """Whether the verdict on the whole run depends on it."""
        return self.rule.severity == "block" and self.waiver is None


def judge(policy: Policy, findings: Findings, today: date) -> tuple[Judgement, ...]:
    """Judge a complete run by every rule, for each group that the rule names.

    Args:
        policy: From `load_policy`.
        findings: A `Run` or anything with its manifest, estimates and failures.
        today: Decides which waivers hold.

    Raises:
        IncompleteError: If the run is not complete.
        InputError: If rules name a probe, metric or subgroup that the run does not have.
    """
    state = findings.manifest.get("state")
    if state != "complete":
        mend = "see failures.parquet" if state == "failed" else "run its plan again"
        raise IncompleteError(f"gate: expected a complete run, this one is {state}: {mend}")
    raise_together([line for rule in policy.rules for line in _misfits(rule, findings)])
    return tuple(
        judgement
        for rule in policy.rules
        for judgement in _apply(rule, findings, policy.waiver(rule.id, today))
    )


def overall_verdict(judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on the run: blocking rules that are not waived, the worst of them.

    Nothing judged is undecided.
    """
    verdicts = {judgement.verdict for judgement in judgements if judgement.counts}
    if "fail" in verdicts:
        return "fail"
    return "undecided" if "undecided" in verdicts or not judgements else "pass"


def _misfits(rule: Rule, findings: Findings) -> Iterator[str]:
    table, manifest = findings.estimates, findings.manifest
    where = f"rule {rule.id!r}"
    probes = list(dict.fromkeys([*table["probe"], *(p["name"] for p in manifest["probes"])]))
    if rule.probe not in probes:
        yield f"{where}: the run has no probe {rule.probe!r}; {suggest(rule.probe, probes)}"
    else:
        asked = table.loc[table["probe"] == rule.probe, "metric"]
        metrics = list(dict.fromkeys(asked)) or list(manifest["metrics"])
        if rule.metric not in metrics:
            yield (
                f"{where}: probe {rule.probe!r} has no metric {rule.metric!r}; "
                f"{suggest(rule.metric, metrics)}"
            )
    if rule.subgroup and _subgroup_name(rule, manifest) is None:
        known = [CROSS.join(names) for names in manifest["subgroups"]]
        wanted = CROSS.join(rule.subgroup)
        yield f"{where}: the run has no subgroup {wanted!r}; {suggest(wanted, known)}"


def _subgroup_name(rule: Rule, manifest: Mapping[str, Any]) -> str | None:
    """The subgroup as the run's table calls it, whatever the order of its attributes."""
    if not rule.subgroup:
        return ""
    for names in manifest["subgroups"]:
        if sorted(names) == sorted(rule.subgroup):
            return CROSS.join(names)
    return None


def _apply(rule: Rule, findings: Findings, waiver: Waiver | None) -> Iterator[Judgement]:
    name, table = _subgroup_name(rule, findings.manifest), findings.estimates
    chosen = (table["probe"] == rule.probe) & (table["metric"] == rule.metric)
    rows = table[chosen & (table["subgroup"] == name)]
    if rule.group is not None:
        rows = rows[rows["group"].str.strip() == rule.group]
    if rows.empty:
        group = f"{name} = {rule.group or 'any'}" if name else "all"
        yield Judgement(rule, group, "undecided", DASH, "the run has no such group", waiver)
    limits = Limits.of(findings.manifest, findings.failures)
    for row in rows.itertuples():
        yield _judge_row(rule, row, limits, waiver)


def _judge_row(
    rule: Rule,
    row: Any,  # noqa: ANN401 (a row of the table of estimates)
    limits: Limits,
    waiver: Waiver | None,
) -> Judgement:
    group = f"{row.subgroup} = {row.group}" if row.subgroup else str(row.group)
    why = obstacle(rule, row, limits)
    if why is None:
        verdict, why = _decide(rule, _judged(rule, row), *judged_interval(rule, row))
        why += f": {settled_by(rule, row)}" if verdict == "undecided" else ""
    else:
        verdict = "undecided"
    if verdict == "pass" and row.validity == "masked":
        verdict, why = "undecided", f"{why}, but {MASKED}"
    return Judgement(
        rule, group, verdict, observed(rule, row), why + _losses(row), waiver, found_with(rule, row)
    )


def observed(rule: Rule, row: Any) -> str:  # noqa: ANN401
    """The number that `rule` looks at, in words, with the word if it is not to be believed."""
    return with_word(_observed(rule, row), row.validity)


def _observed(rule: Rule, row: Any) -> str:  # noqa: ANN401
    if row.status == "suppressed":
        return f"{DASH} {people(row.patients)}"
    if rule.bound != "margin":
        return estimate(row.value, row.low, row.high, row.patients)
    return estimate(row.difference, row.difference_low, row.difference_high, row.patients)


def _judged(rule: Rule, row: Any) -> str:  # noqa: ANN401
    """What the judged interval is of; harm is above 0, whichever way the metric is good."""
    if rule.bound != "margin":
        return "interval"
    harms = {"higher": "harm, rest minus group,", "lower": "harm, group minus rest,"}
    return harms.get(row.better, "distance from the rest")


def _decide(rule: Rule, what: str, low: float, high: float) -> tuple[Verdict, str]:
    said = f"{what} {interval(low, high)}"
    limit = f"{rule.bound} {rule.limit:.10g}"
    kept = low >= rule.limit if rule.bound == "floor" else high <= rule.limit
    broken = high < rule.limit if rule.bound == "floor" else low > rule.limit
    if kept:
        return "pass", f"whole {said} keeps the {limit}"
    if broken:
        return "fail", f"whole {said} breaks the {limit}"
    return "undecided", f"{said} does not settle the {limit}"


def _losses(row: Any) -> str:  # noqa: ANN401
    """What the number leaves out; of a suppressed group, nothing is told."""
    if row.status == "suppressed":
        return ""
    lost = [f"{int(n)} {name}" for name, n in (("undefined", row.undefined), ("failed", row.failed))
            if n and n == n]  # fmt: skip  # noqa: PLR0124
    return f"; {', '.join(lost)}, {count(row.cases)} cases with a value" if lost else ""
