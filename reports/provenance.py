"""Where the numbers come from: software, hardware, seeds, times and the plan."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import DASH, label, number

LINES_SHOWN = 200


def provenance(evidence: Evidence) -> Section:
    """Everything needed to repeat the run."""
    manifest = evidence.manifest
    run = {
        "run": manifest["name"],
        "state": manifest["state"],
        "started": manifest["started"],
        "finished": manifest["finished"],
        "seed": manifest["seed"],
        "schema version": manifest["schema_version"],
    }
    tables = [
        _table("Run", run),
        _table("Software", manifest["versions"]),
        _table("Hardware", manifest["hardware"]),
        *_thresholds(manifest["metrics"]),
        _timings(evidence),
        _table("Plan, as resolved", manifest["plan"]),
    ]
    card = manifest["model"].get("card")
    if card:
        tables.append(_table("How the model was trained, by its own card", card))
    paragraphs = (
        "This report is made from the run folder alone, and the same folder gives the same bytes.",
        *_looks(manifest.get("looks")),
    )
    return Section("provenance", "Provenance", paragraphs, (), tuple(tables))


def _looks(looks: Mapping[str, Any] | None) -> Iterator[str]:
    """How often these cases were looked at, and why that matters."""
    if not looks:
        return
    models = int(looks["models"])
    many = f"{models} different models" if models != 1 else "one model"
    yield (
        f"This is look number {int(looks['number'])} at these cases, by {many} so far. Whoever "
        "chooses or changes a model after a look fits it to these very cases: with every look, "
        "figures on the same cases say a little less about others."
    )
    if not looks["intact"]:
        yield (
            "The ledger of looks is not whole: a line was altered, torn or taken out. There may "
            "have been more looks than it says."
        )


def _thresholds(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[Table, ...]:
    rows = tuple(
        (label(name), number(entry["threshold"]), label(entry["threshold_from"], 200))
        for name, entry in metrics.items()
        if entry.get("threshold") is not None
    )
    columns = ("Metric", "Threshold", "From")
    return (Table("Thresholds from which a class counts as found", columns, rows),) if rows else ()


def _timings(evidence: Evidence) -> Table:
    rows = tuple(
        (label(p["name"]), f"{p['seconds']:.1f}" if p.get("seconds") is not None else DASH,
         str(p["cases"]), label(p["digest"], 80))
        for p in evidence.manifest["probes"]
    )  # fmt: skip
    return Table("Probes", ("Probe", "Seconds", "Cases asked", "Digest"), rows)


def _table(caption: str, content: Mapping[str, object]) -> Table:
    rows = [(label(key, 80), label(value, 200)) for key, value in _flat(content)]
    more = len(rows) - LINES_SHOWN
    rows[LINES_SHOWN:] = [(f"and {more} more", "see manifest.json")] if more > 0 else []
    return Table(caption, ("Setting", "Value"), tuple(rows))


def _flat(content: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of nested settings, under a dotted name."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, Sequence) and not isinstance(content, str) and content:
        for place, value in enumerate(content, 1):
            yield from _flat(value, f"{name}[{place}]")
    else:
        yield name, DASH if content is None or content in ([], {}, "") else content
