"""`rbmed list KIND`: every component of one kind, in a line each."""

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from robustbench_med.components import find, names
from robustbench_med.errors import InputError
from robustbench_med.shipped import PREFIX, located
from robustbench_med.shipped import names as shipped

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
        lines += textwrap.wrap(row.get("about", ""), WIDTH - INDENT, subsequent_indent="  ")
        for head, line in zip_longest([row["name"]], lines, fillvalue=""):
            print(f"{head:<{INDENT - 1}} {line}".rstrip())
    return 0


def _row(kind: str, name: str) -> dict[str, str]:
    component = find(kind, name)  # type: ignore[arg-type]
    lines = (inspect.getdoc(component) or "").splitlines()
    settings = ", ".join(_setting(p) for p in inspect.signature(component).parameters.values())
    row = {"name": name, "settings": settings, "does": lines[0] if lines else ""}
    return {**row, "about": _about(name, component)} if kind == "networks" else row


def _about(name: str, builder: Callable[..., Any]) -> str:
    """Task, parameters of each preset, the bounds that its file says hold on it, its weights."""
    home = sys.modules[builder.__module__]
    told = [getattr(home, "TASK", "")]
    told += [f"{count:,} parameters {preset}".rstrip() for preset, count in _parameters(builder)]
    bounds = getattr(home, "BOUNDED_BY", "")
    told += [f"bounded by {bounds}" if bounds else "cannot be bounded"]
    told += [_trained(name)] if name in shipped() else []
    return "; ".join(text for text in told if text)


def _trained(name: str) -> str:
    """The weights that come with the package, and what they were built with."""
    card = json.loads(located(f"{PREFIX}{name}", "").with_suffix(".json").read_text("utf-8"))
    built = ", ".join(f"{key}={value!r}" for key, value in sorted(card["settings"].items()))
    return f"trained: {PREFIX}{name}, {card['parameters']:,} parameters for {built}"


def _parameters(builder: Callable[..., Any]) -> list[tuple[str, int]]:
    """Numbers of parameters, at the other defaults; none where something must be given."""
    import torch

    presets = ("small", "full") if "preset" in inspect.signature(builder).parameters else ("",)
    found = []
    for preset in presets:
        try:
            with torch.device("meta"):
                network = builder(**({"preset": preset} if preset else {}))
        except (TypeError, InputError):
            return []
        found.append((preset, sum(parameter.numel() for parameter in network.parameters())))
    return found


def _setting(parameter: inspect.Parameter) -> str:
    """`steps=40`, or the name alone where it must be given."""
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"
