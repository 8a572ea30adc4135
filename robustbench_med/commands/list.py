"""`rbmed list KIND`: every component of one kind, in a line each."""

import argparse
import inspect
import json
import textwrap
from itertools import zip_longest

from robustbench_med.components import find, names

WIDTH, INDENT = 79, 15


def main(options: argparse.Namespace) -> int:
    """Print name, settings and first sentence of every component."""
    rows = [_row(options.kind, name) for name in names(options.kind)]
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        lines = textwrap.wrap(row["does"], WIDTH - INDENT)
        lines += textwrap.wrap(row["settings"], WIDTH - INDENT, subsequent_indent="  ")
        for head, line in zip_longest([row["name"]], lines, fillvalue=""):
            print(f"{head:<{INDENT - 1}} {line}".rstrip())
    return 0


def _row(kind: str, name: str) -> dict[str, str]:
    component = find(kind, name)  # type: ignore[arg-type]
    lines = (inspect.getdoc(component) or "").splitlines()
    settings = ", ".join(_setting(p) for p in inspect.signature(component).parameters.values())
    return {"name": name, "settings": settings, "does": lines[0] if lines else ""}


def _setting(parameter: inspect.Parameter) -> str:
    """`steps=40`, or the name alone where it must be given."""
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"
