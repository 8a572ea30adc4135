"""The parameters under which a search found each case worst: settings of a shift, no scores."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from robustbench_med.reports.document import Evidence, Table
from robustbench_med.reports.wording import DASH, FEW, count, label, number, plain_count

FOUND = "found."
COLUMNS = (
    "Probe", "Parameter", "Median", "Lowest to highest", "Patients", "Cases", "Search", "Budget",
)  # fmt: skip
SHORT = 12


EXPLAINED = (
    "A shift whose name ends in '_worst' was not drawn: for each case by itself a search looked "
    "for the parameters, up to the severity, that do it the most harm, and there may be worse. "
    "Where '+' and an attack follow, that attack then searched a small ball around the image "
    "found. The parameters are settings of the shift, not scores, and nothing is judged by them."
)


def worst_found(evidence: Evidence) -> tuple[Table, ...]:
    """One table of the worst parameters of every shift that was searched; none without one.

    Median and range run over cases, each with its own worst. They are not judged and have no
    interval: nothing better or worse is meant by them. As with scores, fewer than ten patients
    show nothing. The budget is the search's own, from the run's manifest, in evaluations of the
    model per case; an en dash where it has none.
    """
    table = evidence.records[evidence.records["kind"] == "shift"]
    table = table[table["metric"].astype(str).str.startswith(FOUND)]
    rows = tuple(_rows(evidence, table))
    if not rows:
        return ()
    caption = "Worst parameters found, of each case its own; budget in model evaluations per case"
    return (Table(caption, COLUMNS, rows, folded=len(rows) > SHORT),)


def _rows(evidence: Evidence, table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    patients = evidence.cases.set_index("case_id")["patient_id"]
    for probe in evidence.manifest["probes"]:
        found = table[table["probe"] == probe["name"]]
        told = _search(probe)
        for metric in dict.fromkeys(found["metric"]):
            known = found[(found["metric"] == metric) & found["value"].notna()]
            people = int(patients.reindex(known["case_id"]).nunique())
            shown = _spread(known["value"]) if people >= FEW else (DASH, DASH)
            cases = plain_count(len(known)) if people >= FEW else DASH
            name = label(str(metric).removeprefix(FOUND))
            yield label(probe["name"]), name, *shown, count(people), cases, *told


def _spread(values: pd.Series) -> tuple[str, str]:
    """Median, and least and greatest value."""
    return number(values.median()), f"{number(values.min())} to {number(values.max())}"


def _search(probe: Mapping[str, Any]) -> tuple[str, str]:
    """What searched and with which budget, by the probe's settings; en dashes where unknown."""
    settings = probe.get("settings", {})
    search = settings.get("searched", settings).get("search")
    if not isinstance(search, Mapping):  # a function has a name only
        return (label(str(search).rpartition(":")[2], 40) if search else DASH), DASH
    name = str(search.get("type", "")).rpartition(":")[2]
    return label(name or DASH, 40), plain_count(search.get("budget"))
