"""`rbmed list KIND`: every component of one kind, in a line each."""

import argparse
import inspect
import json

from robustbench_med.components import find, names


def main(options: argparse.Namespace) -> int:
    """Print name, settings and first sentence of every component."""
    rows = [_row(options.kind, name) for name in names(options.kind)]
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(f"{row['name']:<14} {row['does']}"[:79])
        if row["settings"]:
            print(f"{'':<14} settings: {row['settings']}"[:79])
    return 0


def _row(kind: str, name: str) -> dict[str, str]:
    component = find(kind, name)  # type: ignore[arg-type]
    lines = (inspect.getdoc(component) or "").splitlines()
    settings = ", ".join(inspect.signature(component).parameters)
    return {"name": name, "settings": settings, "does": lines[0] if lines else ""}
