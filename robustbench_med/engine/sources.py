"""Which code computes a value: a digest over a component's source and all it imports."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "auto-LiRPA", "torchattacks", "onnxruntime")
ENGINE = ("robustbench_med.probes", "robustbench_med.engine.evaluate")


def code_digest(modules: Iterable[str]) -> str:
    """Hash the sources of `modules` and all they import from their own packages.

    The versions of the libraries that compute count too; of other libraries they do not.
    """
    files: set[tuple[str, str]] = set()
    for module in {*modules, *ENGINE}:
        files |= _closure(module)
    parts = [*sorted(files), *_libraries()]
    return hashlib.sha256("".join(f"{name}{value}" for name, value in parts).encode()).hexdigest()


def _libraries() -> list[tuple[str, str]]:
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


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
