"""Are the attacks to be believed? Verdicts, and the checks behind them."""

import math
from collections.abc import Mapping
from typing import Any

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import DASH, label

READ = (
    (
        "An attack that fails may have met a robust model, or it may be a weak attack, or the "
        "model may hide from it (masked gradients). So each attack was put to a panel of checks on "
        "a sample of the cases: other searches in the same ball, its own gradients, a ball so "
        "large that every case must break in it, and a copy of the model with a planted example."
    ),
    (
        "Masked: at least one check found far more than the attack did, so its figure says nothing "
        "of robustness. Suspect: some. Valid: no check spoke against it, which is not a proof. "
        "Unchecked: whether it fails for want of strength is not known. "
        "The word stands behind the name of each attack and worst case that is not valid, "
        "wherever it is printed. The harm that an attack found is real whatever its verdict."
    ),
    (
        "A check is suspect where an exact binomial test rejects, at the level 0.01, that at most "
        "2% of all cases speak against the attack, and masked where it rejects 10%."
    ),
)


def validity(evidence: Evidence) -> Section | None:
    """One row per attack and ball with its verdict; folded, a table of its checks."""
    if not any(probe["kind"] == "attack" for probe in evidence.manifest["probes"]):
        return None
    said: Mapping[str, Any] | None = evidence.manifest.get("validity")
    if said is None:
        return None
    rows = tuple(_row(name, entry) for name, entry in said.items())
    tones = tuple(_tone(entry["verdict"]) for entry in said.values())
    columns = ("Attack", "Verdict", "Cases", "Withstood it", "Withstood every search", "Why")
    table = Table("Verdict on each attack, and on the worst case of each ball", columns, rows,
                  tones)  # fmt: skip
    checks = tuple(_checks(name, entry) for name, entry in said.items() if "checks" in entry)
    return Section("validity", "Are the attacks to be believed", READ, (), (table, *checks))


def _row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    n = int(entry.get("n", 0))
    withstood = (_count(entry.get(key), n) for key in ("withstood", "at_most"))
    return (
        label(name), str(entry["verdict"]), str(n) if n else DASH, *withstood,
        label(str(entry["why"]).removeprefix(f"{entry['verdict']}: "), 400),
    )  # fmt: skip


def _count(value: object, n: int) -> str:
    """A share of the sample as a count: it is about these cases, not an estimate for others."""
    share = math.nan if value is None else float(value)  # type: ignore[arg-type]
    return f"{round(share * n)} of {n}" if n and not math.isnan(share) else DASH


def _checks(name: str, entry: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            label(check["name"]), label(check["says"]),
            f"{check['against']} of {check['n']}" if check["n"] else DASH,
            _limit(check["suspect_at"], check["n"]), _limit(check["masked_at"], check["n"]),
            label(check["why"], 200),
        )
        for check in entry["checks"]
    )  # fmt: skip
    tones = tuple(_tone(check["says"]) for check in entry["checks"])
    columns = ("Check", "Says", "Cases against", "Suspect from", "Masked from", "What that means")
    return Table(f"Checks of {label(name)}", columns, rows, tones, folded=True)


def _limit(at: object, n: int) -> str:
    figure = float(at)  # type: ignore[arg-type]
    return str(round(figure * n)) if n and math.isfinite(figure) else DASH


def _tone(word: str) -> str:
    tones = {"masked": "fail", "suspect": "warning", "unchecked": "undecided", "not asked": "muted"}
    return tones.get(word, "")
