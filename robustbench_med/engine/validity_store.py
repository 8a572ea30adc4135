"""Panels on disk, one JSON file each, and what of them goes into a run's manifest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustbench_med.engine.validity import Panel
from robustbench_med.engine.validity_checks import Check, Limits
from robustbench_med.errors import IntegrityError
from robustbench_med.runfolder import Run, write_json

FIGURES = ("figure", "suspect_at", "masked_at")


def panel_path(run: Run, digest: str) -> Path:
    """Where the panel of that digest lies."""
    return run.folder / "validity" / f"{digest}.json"


def write_panel(run: Run, digest: str, probe: str, found: Panel | str) -> None:
    """Write a panel, or why there is none."""
    content = {"why": found} if isinstance(found, str) else {"panel": asdict(found)}
    write_json(panel_path(run, digest), {"probe": probe, **content})


def read_panel(run: Run, digest: str) -> Panel | str | None:
    """Return the stored panel, or why there is none; None before anything was asked.

    Raises:
        IntegrityError: If its file is not what was written.
    """
    path = panel_path(run, digest)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _panel(content["panel"]) if "panel" in content else str(content["why"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: a finished panel cannot be read; delete it and run again: "
                             f"{error}") from error  # fmt: skip


def prune_panels(run: Run, wanted: Sequence[str]) -> None:
    """Delete the panels that the plan no longer asks for."""
    for path in (run.folder / "validity").glob("*.json"):
        if path.stem not in wanted:
            path.unlink()


def told(panel: Panel) -> dict[str, Any]:
    """A panel as the manifest has it: figures and words, no case."""
    checks = [
        {
            "name": check.name, "says": check.says, "against": len(check.against), "n": check.n,
            "suspect_at": check.suspect_at, "masked_at": check.masked_at, "why": check.why,
        }
        for check in panel.checks
    ]  # fmt: skip
    return {
        "verdict": panel.verdict, "why": panel.why, "n": panel.n, "withstood": panel.withstood,
        "at_most": panel.at_most, "checks": checks,
    }  # fmt: skip


def _panel(content: Mapping[str, Any]) -> Panel:
    """The panel behind its JSON, which has no infinity and no NaN."""
    lists = {name: tuple(content[name]) for name in ("cases", "broken", "breakable")}
    checks = tuple(_check(check) for check in content["checks"])
    return Panel(**{**content, **lists, "checks": checks, "limits": Limits(**content["limits"])})


def _check(content: Mapping[str, Any]) -> Check:
    figures = {name: float(content[name]) for name in FIGURES}
    lists = {name: tuple(content[name]) for name in ("asked", "against")}
    return Check(**{**content, **figures, **lists})
