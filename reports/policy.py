"""What a run must keep to: rules and waivers, read from TOML, every mistake told at once."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, cast

from robustbench_med.errors import InputError, raise_together
from robustbench_med.reports.policy_fields import Fields

Bound = Literal["floor", "ceiling", "margin"]
Severity = Literal["block", "warn"]
BOUNDS: tuple[Bound, ...] = ("floor", "ceiling", "margin")
TESTS: Mapping[Bound, str] = {
    "floor": "interval", "ceiling": "interval", "margin": "noninferior",
}  # fmt: skip
RULE_KEYS = (
    "id", "probe", "metric", *BOUNDS, "subgroup", "test", "min_patients", "severity",
)  # fmt: skip
WAIVER_KEYS = ("rule", "reason", "approver", "expires")
MIN_PATIENTS = 30


@dataclass(frozen=True)
class Rule:
    """One limit that a metric under a probe has to keep.

    Attributes:
        id: Unique in its policy.
        probe: Name of a probe of the run: "clean", "pgd[linf<=0.004]", "worst[linf<=0.004]".
        metric: Name of a metric of that probe.
        bound: Whether `limit` is the least value, the greatest, or the most that a group may
            be worse than the rest.
        limit: In the metric's unit.
        subgroup: Attributes whose groups are judged one by one; empty for all patients.
        group: The only group judged, of those; None for every group.
        min_patients: Fewer than this decide nothing.
        severity: Whether a failure blocks or only warns.
    """

    id: str
    probe: str
    metric: str
    bound: Bound
    limit: float
    subgroup: tuple[str, ...] = ()
    group: str | None = None
    min_patients: int = MIN_PATIENTS
    severity: Severity = "block"

    @property
    def test(self) -> str:
        """How intervals are held against the limit."""
        return TESTS[self.bound]


@dataclass(frozen=True)
class Waiver:
    """A named person's leave to pass over a rule, for a reason and for a time.

    Attributes:
        rule: Id of the rule passed over.
        reason: In the approver's words.
        approver: Who answers for it.
        expires: Last day on which it holds.
    """

    rule: str
    reason: str
    approver: str
    expires: date


@dataclass(frozen=True)
class Policy:
    """Rules, and waivers of them."""

    rules: tuple[Rule, ...]
    waivers: tuple[Waiver, ...] = ()

    def waiver(self, rule_id: str, today: date) -> Waiver | None:
        """The waiver of that rule that holds longest, if any holds on `today`."""
        holding = [w for w in self.waivers if w.rule == rule_id and w.expires >= today]
        return max(holding, key=lambda waiver: waiver.expires, default=None)


def load_policy(path: str | Path) -> Policy:
    """Read a policy file.

    Raises:
        InputError: If it cannot be read, or names every mistake in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"policy {path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"policy {path}: not UTF-8 text: {error}") from error
    return parse_policy(text, str(path))


def parse_policy(text: str, where: str = "policy") -> Policy:
    """Read a policy from its text; `where` begins each complaint.

    Raises:
        InputError: Naming every mistake, a line each.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}") from error
    problems: list[str] = []
    Fields(content, where, problems).refuse_unknown(("rule", "waiver"))
    rules = _rules(_tables(content, "rule", where, problems), where, problems)
    known = list(dict.fromkeys(rule.id for rule in rules if rule.id))
    waivers = tuple(
        _waiver(Fields(entry, f"{where}: waiver {number}", problems), known)
        for number, entry in enumerate(_tables(content, "waiver", where, problems), 1)
    )
    if not rules:
        problems.append(f"{where}: expected at least one [[rule]], got none")
    raise_together(problems)
    return Policy(rules, waivers)


def _tables(
    content: Mapping[str, Any], name: str, where: str, problems: list[str]
) -> Sequence[Mapping[str, Any]]:
    found = content.get(name, [])
    if isinstance(found, list) and all(isinstance(entry, dict) for entry in found):
        return found
    problems.append(f"{where}: expected [[{name}]] tables, got a single value; write [[{name}]]")
    return [found] if isinstance(found, dict) else []


def _rules(
    entries: Sequence[Mapping[str, Any]], where: str, problems: list[str]
) -> tuple[Rule, ...]:
    rules = []
    for number, entry in enumerate(entries, 1):
        name = repr(entry["id"]) if isinstance(entry.get("id"), str) else str(number)
        rules.append(_rule(Fields(entry, f"{where}: rule {name}", problems)))
    ids = [rule.id for rule in rules]
    problems += [
        f"{where}: rule {name!r}: this id is there {ids.count(name)} times"
        for name in dict.fromkeys(ids)
        if name and ids.count(name) > 1
    ]
    return tuple(rules)


def _rule(fields: Fields) -> Rule:
    fields.refuse_unknown(RULE_KEYS)
    bound, limit = _limit(fields)
    subgroup, group = fields.subgroup()
    if bound == "margin" and not subgroup:
        fields.complain("a margin compares groups: subgroup is needed")
    test = fields.choice("test", ("interval", "noninferior"), TESTS[bound])
    if test != TESTS[bound]:
        fields.complain(f"a {bound} is tested by {TESTS[bound]!r}, not by {test!r}")
    return Rule(
        id=fields.text("id"),
        probe=fields.text("probe"),
        metric=fields.text("metric"),
        bound=bound,
        limit=limit,
        subgroup=subgroup,
        group=group,
        min_patients=fields.whole("min_patients", MIN_PATIENTS),
        severity=cast("Severity", fields.choice("severity", ("block", "warn"), "block")),
    )


def _limit(fields: Fields) -> tuple[Bound, float]:
    given = [name for name in BOUNDS if name in fields.entry]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        fields.complain(f"expected exactly one of {', '.join(BOUNDS)}, got {got}")
        return "floor", 0.0
    limit = fields.number(given[0])
    if given[0] == "margin" and limit < 0:
        fields.complain(f"margin must be at least 0, got {limit:g}")
    return given[0], limit


def _waiver(fields: Fields, rules: Sequence[str]) -> Waiver:
    fields.refuse_unknown(WAIVER_KEYS)
    rule = fields.text("rule")
    if rule:
        fields.choice("rule", rules, rule)
    return Waiver(rule, fields.text("reason"), fields.text("approver"), fields.day("expires"))
