"""What a report is made of, and all that a section may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import pandas as pd

from robustbench_med.errors import IncompleteError, InputError
from robustbench_med.reports.believed import spoken, spoken_manifest
from robustbench_med.reports.gate import Judgement, Verdict, judge, overall_verdict
from robustbench_med.reports.policy import parse_policy
from robustbench_med.runfolder import Run


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: What it shows.
        columns: Headings.
        rows: One text per column; the first heads its row.
        tones: One per row, or none: "pass", "fail", "undecided", "waived", "warning", "muted".
        folded: Whether only its caption shows until the reader opens it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tones: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Listing:
    """Findings in plain words, each with the word that sums it up.

    Attributes:
        title: What they are about.
        lines: Word and sentence, as ("worse", "sex: F. 0.71 against ..."); the word may be empty.
    """

    title: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing and its numbers.

    Attributes:
        svg: One `<svg>` element.
        caption: What it shows and how to read it.
        alt: The finding, for who cannot see it.
        table: Its numbers.
    """

    svg: str
    caption: str
    alt: str
    table: Table


@dataclass(frozen=True)
class Part:
    """A stretch of a section under a heading of its own.

    Attributes:
        title: Its heading.
        paragraphs: First.
        listings: Then findings in words.
        figures: Then drawings.
        tables: Then tables.
        folded: Whether only its heading shows until the reader opens it.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    listings: tuple[Listing, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One section of a report: text first, then figures, then tables, then its parts."""

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a section may look at.

    Attributes:
        manifest: What ran, on what, and how it ended.
        cases: One row per case.
        records: One row per number.
        failures: One row per case that a probe could not score.
        estimates: One row per probe, metric and group.
        gaps: One row per probe, metric and subgroup.
        search: One row per probe, metric and group searched.
        judgements: Of the run's own policy; empty where nothing was judged.
        unjudged: Why nothing was judged; empty where something was.
    """

    manifest: Mapping[str, Any]
    cases: pd.DataFrame
    records: pd.DataFrame
    failures: pd.DataFrame
    estimates: pd.DataFrame
    gaps: pd.DataFrame
    search: pd.DataFrame
    judgements: tuple[Judgement, ...] = ()
    unjudged: str = ""

    @classmethod
    def of(cls, run: Run) -> "Evidence":
        """Read a run folder and judge it by the policy it carries.

        Attacks that are not to be believed are called so wherever their name stands.

        A policy that does not fit the run leaves the run unjudged, with the reason.

        Raises:
            IncompleteError: If the run never came to its estimates.
        """
        state = run.manifest.get("state", "unknown")
        if state in ("running", "interrupted"):
            raise IncompleteError(
                f"run {run.folder}: expected a finished one, it is {state}; run its plan again"
            )
        judgements, unjudged = _judged(run)
        tables = (run.records, run.failures, run.estimates, run.gaps, run.search)
        records, failures, estimates, gaps, search = (spoken(t, run.manifest) for t in tables)
        return cls(
            spoken_manifest(run.manifest), run.cases, records, failures, estimates, gaps, search,
            judgements, unjudged,
        )  # fmt: skip

    @cached_property
    def by_metric(self) -> Mapping[str, pd.DataFrame]:
        """The table of estimates, metric by metric, each in the table's order."""
        parts = self.estimates.groupby("metric", sort=False)
        return {str(metric): part for metric, part in parts}

    def of_metric(self, metric: str) -> pd.DataFrame:
        """Estimates of one metric; no rows where there are none."""
        return self.by_metric.get(metric, self.estimates.iloc[:0])

    @cached_property
    def by_probe(self) -> Mapping[tuple[str, str], list[Any]]:
        """Rows of the table of estimates by metric and probe, each in the table's order."""
        found: dict[tuple[str, str], list[Any]] = {}
        for row in self.estimates.itertuples():
            found.setdefault((str(row.metric), str(row.probe)), []).append(row)
        return found

    @cached_property
    def of_everyone(self) -> Mapping[str, list[Any]]:
        """Rows over all patients by metric, in the table's order."""
        found: dict[str, list[Any]] = {}
        for (metric, _), rows in self.by_probe.items():
            found.setdefault(metric, []).extend(row for row in rows if not row.subgroup)
        return found

    @property
    def verdict(self) -> Verdict | None:
        """The policy's verdict; None where nothing was judged."""
        return None if self.unjudged else overall_verdict(self.judgements)


def finished_on(manifest: Mapping[str, Any]) -> date:
    """The day the run finished, UTC: "today", as far as its report is concerned.

    Raises:
        IncompleteError: If it did not finish.
    """
    finished = manifest.get("finished")
    if not finished:
        raise IncompleteError("report: the run has no finishing time; run its plan again")
    return datetime.fromisoformat(str(finished)).date()


def _judged(run: Run) -> tuple[tuple[Judgement, ...], str]:
    text = run.manifest.get("policy")
    if not text:
        return (), "The run has no policy, so nothing was judged."
    try:
        policy = parse_policy(str(text), "the run's policy")
        return judge(policy, run, finished_on(run.manifest)), ""
    except (InputError, IncompleteError) as error:
        return (), f"The policy could not be judged: {error}"
