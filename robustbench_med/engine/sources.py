"""Which code computes a value: a digest over a component's source and all it imports."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ENGINE = ("robustbench_med.probes", "robustbench_med.engine.evaluate")


def code_digest(modules: Iterable[str]) -> str:
    """Hash the sources of `modules` and of what they import from their own packages.

    Libraries are left out: their versions stand in the manifest.
    """
    files: set[tuple[str, str]] = set()
    for module in {*modules, *ENGINE}:
        files |= _closure(module)
    return hashlib.sha256("".join(f"{name}{digest}" for name, digest in sorted(files)).encode()
    ).hexdigest()  # fmt: skip


@cache
def _closure(module: str) -> frozenset[tuple[str, str]]:
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None:
            continue
        text = path.read_bytes()
        found[name] = hashlib.sha256(text).hexdigest()
        package = module.split(".", maxsplit=1)[0]
        waiting += [other for other in _imports(text) if other.split(".")[0] == package]
    return frozenset(found.items())


def _imports(text: bytes) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)
