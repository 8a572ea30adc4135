"""The verdict and every rule behind it."""

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.gate import Judgement
from robustbench_med.reports.split import leak
from robustbench_med.reports.wording import label

BANNERS = {
    "pass": "PASS: every blocking rule is kept",
    "fail": "FAIL: a blocking rule is broken",
    "undecided": "UNDECIDED: the evidence does not settle every blocking rule",
    None: "NOT JUDGED",
}

POWER = (
    "Beside each margin stands the smallest true difference from the rest that these patients "
    "would have shown with 80% power: a smaller one may well have gone unseen."
)


def headline(evidence: Evidence) -> str:
    """The verdict in one line, waivers counted."""
    waived = sum(judgement.outcome == "waived" for judgement in evidence.judgements)
    note = f" ({waived} result{'s' if waived != 1 else ''} waived)" if waived else ""
    return BANNERS[evidence.verdict] + note


def verdict(evidence: Evidence) -> Section:
    """Rules, groups, what was observed, and why each verdict fell as it did."""
    leaking = tuple(text for text in (leak(evidence.manifest),) if text)
    if evidence.unjudged:
        return Section("verdict", "Verdict", (*leaking, label(evidence.unjudged, 600)))
    fixed = evidence.manifest.get("policy_fixed")
    paragraphs = (
        *leaking,
        (
            "A rule is passed only if the whole interval keeps its limit, and failed only if the"
            " whole interval breaks it. In between, or with too little behind the number, the "
            "rule is undecided: this says that the evidence is too thin, not that the model is "
            "at fault."
        ),
        *([POWER] if any(judgement.power for judgement in evidence.judgements) else []),
        *([f"The policy was fixed on {label(fixed, 120)}."] if fixed else []),
    )
    tables = (rule_table(evidence.judgements), *_waivers(evidence.judgements))
    return Section("verdict", "Verdict", paragraphs, (), tables)


def rule_table(judgements: tuple[Judgement, ...]) -> Table:
    """One row per rule and group."""
    rows = tuple(
        (
            judgement.outcome,
            label(judgement.rule.id, 40),
            f"{label(judgement.rule.metric, 40)} under {label(judgement.rule.probe, 40)}",
            label(judgement.group),
            limit(judgement),
            judgement.observed,
            why(judgement),
        )
        for judgement in judgements
    )
    columns = (
        "Verdict", "Rule", "Judged", "Group", "Limit", "Observed, with interval", "Why",
    )  # fmt: skip
    tones = tuple(judgement.outcome for judgement in judgements)
    return Table("Rules of the policy, one row per group judged", columns, rows, tones)


def why(judgement: Judgement) -> str:
    """The reason, which gap would have been found, and what became of the verdict."""
    parts = [judgement.reason, judgement.power]
    if judgement.outcome != "pass" and judgement.waiver is not None:
        waiver = judgement.waiver
        parts.append(
            f"{judgement.verdict}, waived by {label(waiver.approver, 40)} until {waiver.expires}"
        )
    elif judgement.outcome != "pass" and not judgement.counts:
        parts.append("only warns")
    return "; ".join(part for part in parts if part)


def limit(judgement: Judgement) -> str:
    """The limit in words, as the policy writes it: "floor 0.8"."""
    return f"{judgement.rule.bound} {judgement.rule.limit:.10g}"


def _waivers(judgements: tuple[Judgement, ...]) -> tuple[Table, ...]:
    held = {j.rule.id: j.waiver for j in judgements if j.waiver and j.outcome == "waived"}
    if not held:
        return ()
    rows = tuple(
        (label(rule), label(w.reason, 300), label(w.approver), w.expires.isoformat())
        for rule, w in held.items()
    )
    columns = ("Rule", "Reason", "Approver", "Holds until")
    return (Table("Waivers in force on the day the run finished", columns, rows),)
