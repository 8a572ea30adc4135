"""Compares a certificate with the attacks in its ball, on the cases that both speak of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustbench_med.reports.believed import with_word
from robustbench_med.reports.document import Evidence
from robustbench_med.statistics.contradiction import STATISTICAL, contradictions
from robustbench_med.statistics.table import estimate_run

SCORE = "correct"
ANSWERS = ("certified", "falsified", "undecided", "checked")


@dataclass(frozen=True)
class Sandwich:
    """One certificate with what stands above and beside it; rows of a table of estimates.

    Attributes:
        probe: The certificate.
        asked: Cases it was asked about.
        cases: Cases compared: those it answered, and that an attack in the ball was put to.
        unanswered: Cases it failed on, does not support, or gave no value for.
        certified: Share proved.
        others: Its further answers.
        attacked: Share left correct in the worst case; None without an attack in the ball.
        clean: Share correct on clean images; None where no metric says so.
        broken: Answers under attack or clean that contradict the proof.
        statistical: Whether it holds with a probability only.
        doubt: Verdict on the attacks in the ball, if they are not to be believed.
    """

    probe: str
    asked: int
    cases: int
    unanswered: int
    certified: Any
    others: tuple[Any, ...]
    attacked: Any
    clean: Any
    broken: int
    statistical: bool
    doubt: str

    @property
    def checked(self) -> Any:  # noqa: ANN401 (a row of the table)
        """Share proved and checked; None where the certifier says nothing of it."""
        return next((row for row in self.others if row.metric == "checked"), None)

    def named(self) -> Iterator[tuple[str, Any]]:
        """Its rows by what they say, from the least demanding."""
        attacked = with_word("attacked", self.doubt)
        rows = (("clean", self.clean), (attacked, self.attacked), ("certified", self.certified))
        yield from ((name, row) for name, row in rows if row is not None)
        yield from ((str(row.metric), row) for row in self.others)


def sandwiches(evidence: Evidence) -> list[Sandwich]:
    """One per certificate that gave any answer, in the manifest's order."""
    probes = [p for p in evidence.manifest["probes"] if p["kind"] == "certificate"]
    found = (_sandwich(evidence, probe) for probe in probes)
    return [sandwich for sandwich in found if sandwich is not None]


def _sandwich(evidence: Evidence, certificate: Mapping[str, Any]) -> Sandwich | None:
    name, records = certificate["name"], evidence.records
    chosen = (records["probe"] == name) & (records["metric"] == "certified")
    answered = set(records.loc[chosen & records["value"].notna(), "case_id"])
    rivals = [
        p for p in evidence.manifest["probes"]
        if p["kind"] == "attack" and p["ball"] == certificate["ball"]
    ]  # fmt: skip
    attacked = records["probe"].isin([p["name"] for p in rivals]) & (records["metric"] == SCORE)
    tried = set(records.loc[attacked & records["value"].notna(), "case_id"])
    same = answered & tried if answered & tried else answered
    if not same:
        return None
    clean = [p for p in evidence.manifest["probes"] if p["kind"] == "clean"]
    part = _restricted(evidence, same, [*clean, *(rivals if tried else []), certificate])
    table = estimate_run(part.records, part.cases, part.failures, part.manifest)
    rows = {(row.probe, row.metric): row for row in table.itertuples()}
    return Sandwich(
        probe=name,
        asked=int(certificate["cases"]),
        cases=len(same),
        unanswered=int(certificate["cases"]) - len(answered),
        certified=rows[name, "certified"],
        others=tuple(rows[name, answer] for answer in ANSWERS[1:] if (name, answer) in rows),
        attacked=rows.get((f"worst[{certificate['ball']}]", SCORE)),
        clean=rows.get(("clean", SCORE)),
        broken=len(contradictions(part.records, part.manifest)),
        statistical=name.startswith(STATISTICAL),
        doubt=_doubt(evidence, f"worst[{certificate['ball']}]"),
    )


def _doubt(evidence: Evidence, worst: str) -> str:
    said = evidence.manifest.get("validity") or {}
    entries = [entry for name, entry in said.items() if name.startswith(worst)]
    return str(entries[0]["verdict"]) if entries else ""


def _restricted(evidence: Evidence, same: set[str], probes: list[Mapping[str, Any]]) -> Evidence:
    """The evidence of some probes on some cases only, all patients together."""
    names = [probe["name"] for probe in probes]
    asked = [{**probe, "cases": len(same)} for probe in probes]

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["case_id"].isin(same) & table["probe"].isin(names)]

    records = kept(evidence.records)
    return replace(
        evidence,
        manifest={**evidence.manifest, "probes": asked, "subgroups": []},
        cases=evidence.cases[evidence.cases["case_id"].isin(same)],
        records=records[records["metric"].isin([SCORE, *ANSWERS])],
        failures=kept(evidence.failures),
    )
