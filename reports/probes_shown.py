"""Which of the many probes a section shows: clean, one worst case, the hardest shift."""

from typing import Any

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.rows import base, overall
from robustbench_med.reports.wording import harm, label


def worst_cases(evidence: Evidence, metric: str) -> list[str]:
    """Worst cases of the metric: norms in the order of the plan, balls of each from the least."""
    rows = {str(row.probe): row for row in overall(evidence, metric) if row.kind == "worst"}
    probes = evidence.manifest["probes"]
    balls = [str(probe["ball"]) for probe in probes if probe["kind"] == "attack"]
    norms = list(dict.fromkeys(_norm(f"worst[{ball}]") for ball in balls))
    found = [name for name in rows if _norm(name) in norms]
    return sorted(found, key=lambda name: (norms.index(_norm(name)), rows[name].level))


def shown_worst(evidence: Evidence, metric: str) -> str | None:
    """The worst case in the middle ball of the plan's first norm; None without one.

    At the least ball little changes, at the greatest often nothing is left to compare.
    """
    found = worst_cases(evidence, metric)
    first = [name for name in found if _norm(name) == _norm(found[0])]
    return first[(len(first) - 1) // 2] if first else None


def _norm(ball: str) -> str:
    return ball.partition("<=")[0]


def hardest_shift(evidence: Evidence, metric: str) -> str | None:
    """The shift that does all patients the most harm; None without one."""
    shifts = [row for row in overall(evidence, metric) if row.kind == "shift"]
    known = [row for row in shifts if row.value == row.value]
    if not known:
        return None
    return str(max(known, key=lambda row: harm(row.value, row.better)).probe)


def clean_and_worst(evidence: Evidence, metric: str) -> list[str]:
    """The clean probe and the shown worst case, those that there are."""
    clean = [str(row.probe) for row in overall(evidence, metric) if row.kind == "clean"]
    worst = shown_worst(evidence, metric)
    return [*clean[:1], *([worst] if worst else [])]


def clean_worst_and_shift(evidence: Evidence, metric: str) -> list[str]:
    """As `clean_and_worst`, and the shift that does the declared metric the most harm."""
    shift = hardest_shift(evidence, base(evidence, metric))
    return [*clean_and_worst(evidence, metric), *([shift] if shift else [])]


def under(evidence: Evidence, metric: str, probe: str) -> list[Any]:
    """Rows of one metric under one probe, all patients first."""
    return list(evidence.by_probe.get((metric, probe), ()))


def called(probe: str) -> str:
    """A probe in words: "clean images", "worst case in linf<=0.004"."""
    if probe == "clean":
        return "clean images"
    ball, end, word = probe.removeprefix("worst[").rpartition("]")
    if probe.startswith("worst[") and end:
        return f"worst case in {label(ball, 40)}{word}"
    return label(probe)


def heading(probe: str) -> str:
    """A probe in words that begin a line; a name keeps its letters."""
    words = called(probe)
    return words if words == label(probe) else f"{words[:1].upper()}{words[1:]}"
