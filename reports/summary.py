"""The report in a page of Markdown, short enough for a continuous-integration summary."""

import re
from collections import Counter
from collections.abc import Sequence

from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.failures import by_error
from robustbench_med.reports.gate import Judgement
from robustbench_med.reports.split import leak
from robustbench_med.reports.subgroups import found_groups
from robustbench_med.reports.verdict import headline, limit, why
from robustbench_med.reports.wording import estimate, label, p_value

LIMIT_BYTES = 60_000
RULES_SHOWN = 60
ROWS_SHOWN = 40
URGENT = ("fail", "undecided", "warning", "waived", "pass")
PUNCTUATION = re.compile(r"([\\`*_{}\[\]#|~!$]|:(?=/)|(?<=www)\.)", re.IGNORECASE)
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
COUNTED = {
    "better": "do better",
    "no difference found": "show no difference where one would have been found",
    "cannot tell": "have too few patients to tell",
    "too few": "have fewer than 10 patients",
    "no value": "have no value",
}
MENTION = re.compile(r"(?<!\w)@(?=\w)")


def render_summary(evidence: Evidence) -> str:
    """Render verdict, rules, overall results, groups that stand out, and failures.

    Always fewer than 60,000 bytes of UTF-8: what does not fit is counted, not shown.
    """
    manifest = evidence.manifest
    parts = [
        f"# {headline(evidence)}",
        (
            f"{_inert(manifest['name'])}: model {_inert(manifest['model']['name'])}, cohort "
            f"{_inert(manifest['cohort']['name'])}, {manifest['cohort']['cases']} cases of "
            f"{manifest['cohort']['patients']} patients; run {_inert(manifest['state'])}."
        ),
        _inert(leak(evidence.manifest), 800),
        _rules(evidence),
        _overall(evidence),
        _groups(evidence),
        _failures(evidence),
    ]
    return _cut("\n\n".join(part for part in parts if part) + "\n")


def _inert(text: object, width: int = 60) -> str:
    """One line in which no character means anything to Markdown."""
    line = PUNCTUATION.sub(r"\\\1", label(text, width))
    line = "".join(ENTITIES.get(character, character) for character in line)
    return MENTION.sub("@\N{ZERO WIDTH SPACE}", line)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(_inert(cell, 120) for cell in row)} |" for row in rows[:most]]
    if len(rows) > most:
        lines += ["", f"And {len(rows) - most} more rows in report.html."]
    return "\n".join(lines)


def _rules(evidence: Evidence) -> str:
    if evidence.unjudged:
        return _inert(evidence.unjudged, 600)
    ordered = sorted(evidence.judgements, key=lambda judgement: URGENT.index(judgement.outcome))
    columns = ("Verdict", "Rule", "Group", "Limit", "Observed", "Why")
    return _table("Rules", columns, [_rule(judgement) for judgement in ordered], RULES_SHOWN)


def _rule(judgement: Judgement) -> tuple[str, ...]:
    return (
        judgement.outcome, label(judgement.rule.id, 40), label(judgement.group, 40),
        limit(judgement), judgement.observed, why(judgement),
    )  # fmt: skip


def _overall(evidence: Evidence) -> str:
    table = evidence.estimates
    proved = (table["kind"] == "certificate") & (table["metric"] == "certified")
    main = table["metric"].isin(estimate_rows.compared(evidence))
    chosen = table[(table["kind"].isin(["clean", "worst"]) & main) | proved]
    rows = [
        (row.probe, row.metric, estimate(row.value, row.low, row.high, row.patients),
         estimate_rows.method(row), estimate_rows.reason(row))
        for row in estimate_rows.listed(chosen[chosen["subgroup"] == ""])
    ]  # fmt: skip
    columns = ("Probe", "Metric", "Value, 95% interval, patients", "Interval by", "Note")
    note = (
        "Worst: the harm is no less than shown. Certified: a lower limit; a case that is not "
        "certified is undecided or falsified, not proved attackable."
    )
    return f"{_table('Clean, worst case and certified', columns, rows, ROWS_SHOWN)}\n\n{note}"


def _groups(evidence: Evidence) -> str:
    found = found_groups(evidence)
    if not found:
        return ""
    rows = [
        (view.word(row), estimate_rows.group_name(row), row.probe, row.metric,
         estimate(row.value, row.low, row.high, row.patients), estimate_rows.difference(row),
         p_value(row.p_holm))
        for view in found for row in view.found
    ]  # fmt: skip
    columns = ("Stands", "Group", "Probe", "Metric", "Value", "Minus the others", "Corrected")
    counted = Counter(str(word) for view in found for _, word in view.groups)
    told = ", ".join(f"{counted[word]} {said}" for word, said in COUNTED.items() if counted[word])
    note = (
        f"Each group was held against all other patients, clean, in one worst case and under the "
        f"hardest shift, {counted.total()} times: {len(rows)} stand out after correction, {told}."
    )
    if not rows:
        return f"## Groups that stand out\n\n{note}"
    return f"{_table('Groups that stand out', columns, rows, ROWS_SHOWN)}\n\n{note}"


def _failures(evidence: Evidence) -> str:
    rows = by_error(evidence).rows
    if not rows:
        return "## Failures\n\nEvery case was answered by every probe."
    columns = ("Probe", "Error", "Message", "Answers")
    return _table("Failures", columns, rows, ROWS_SHOWN)


def _cut(text: str) -> str:
    kept = text
    while len(kept.encode()) >= LIMIT_BYTES - 100:
        kept = kept[: kept.rstrip("\n").rindex("\n") + 1]
    return kept if kept == text else f"{kept}\nCut here: the rest is in report.html.\n"
