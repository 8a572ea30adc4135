"""Names for components, so that plans can be written in text, and descriptions of them.

Built-in and third-party components are declared the same way, as entry points of the group
`robustbench_med.<kind>`, and are imported when first built.
"""

import difflib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, get_args

from robustbench_med.errors import InputError, RobustbenchMedError, UnknownNameError

Kind = Literal[
    "attacks", "objectives", "shifts", "searches", "certifiers", "metrics", "cohorts", "networks",
    "losses", "defences", "sections",
]  # fmt: skip


def names(kind: Kind) -> list[str]:
    """Every name that `build` accepts, sorted."""
    return sorted(entry_points(group=_group(kind)).names)


def build(kind: Kind, name: str, /, **settings: object) -> Any:  # noqa: ANN401
    """Build the component called `name`, or the one at `package.module:object`.

    Raises:
        UnknownNameError: If nothing of that kind has that name.
        InputError: If the component does not accept `settings`, or is not ours and raises.
    """
    component = check_settings(kind, name, settings)
    if ":" not in name:
        return component(**settings)
    try:
        return component(**settings)
    except RobustbenchMedError:
        raise
    except Exception as error:  # somebody's code: say where it failed
        raise InputError(f"{kind}: {name} raised {_where(error)}") from error


def made(kind: Kind, who: str, asked: object) -> Any:  # noqa: ANN401
    """Return the component that a setting of another one asks for.

    Args:
        kind: Of the component.
        who: The setting, for errors.
        asked: A name, a table with `use` and settings, or the component itself.

    Raises:
        UnknownNameError: If nothing of that kind has that name.
        InputError: If it is none of the three, or its settings do not fit.
    """
    if isinstance(asked, str):
        asked = {"use": asked}
    if isinstance(asked, Mapping):
        settings = dict(asked)
        use = settings.pop("use", None)
        if not isinstance(use, str):
            raise InputError(f"{who}: expected {{ use = NAME, ... }}, got {dict(asked)!r}")
        asked = build(kind, use, **settings)
    if not callable(asked) or isinstance(asked, type):
        raise InputError(f"{who}: expected a name, a table or one of the {kind}, got {asked!r}")
    return asked


def find(kind: Kind, name: str) -> Callable[..., Any]:
    """Return what builds the component called `name`, without building it.

    Raises:
        UnknownNameError: If nothing of that kind has that name, or the module has no such object.
    """
    if ":" in name:
        return _load(kind, EntryPoint(name, name, _group(kind)))
    for found in entry_points(group=_group(kind), name=name):
        return _load(kind, found)
    raise UnknownNameError(f"{kind}: no {name!r}; {suggest(name, names(kind))}")


def check_settings(kind: Kind, name: str, settings: Mapping[str, object]) -> Callable[..., Any]:
    """Find the component called `name`; `InputError` if it does not take `settings`."""
    component = find(kind, name)
    signature = inspect.signature(component)
    taken = signature.parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for unknown in (key for key in settings if key not in taken):
            hint = suggest(unknown, list(taken))
            raise InputError(f"{kind}: {name} has no setting {unknown!r}; {hint}")
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise InputError(f"{kind}: {name}: {error}") from error
    return component


def suggest(name: str, known: Sequence[str]) -> str:
    """Say which of `known` was probably meant."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def _load(kind: Kind, entry: EntryPoint) -> Callable[..., Any]:
    try:
        component: Callable[..., Any] = entry.load()
    except Exception as error:  # somebody's module: say where it failed
        raise UnknownNameError(f"{kind}: cannot load {entry.value!r}: {_where(error)}") from error
    return component


def _where(error: Exception) -> str:
    """The error's class and text, and the line of the code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    line = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{line}"


def _group(kind: Kind) -> str:
    if kind not in get_args(Kind):
        raise UnknownNameError(f"no kind {kind!r}; {suggest(kind, get_args(Kind))}")
    return f"robustbench_med.{kind}"


def describe(thing: object) -> object:
    """Turn a component into plain data: its qualified name and its settings, recursively.

    Two components with equal descriptions behave alike, so digests are made from this.

    Raises:
        InputError: If it is neither plain data, a dataclass, a function nor a simple object.
    """
    if thing is None or isinstance(thing, (str, int, float, bool)):
        return thing
    if isinstance(thing, Mapping):
        return _described(thing)
    if isinstance(thing, (tuple, list)):
        return [describe(value) for value in thing]
    return _describe_component(thing)


def _describe_component(thing: object) -> object:
    if isinstance(thing, partial):
        parts = {"partial": thing.func, "positional": thing.args, "named": thing.keywords}
        return _described(parts)
    if inspect.isroutine(thing) or isinstance(thing, type):
        return _qualified(thing)
    return {"type": _qualified(type(thing)), **_described(_settings(thing))}


def modules_of(description: object) -> set[str]:
    """Names of the modules that a description's components come from."""
    if isinstance(description, dict):
        return set().union(*(modules_of(value) for value in description.values()))
    if isinstance(description, list):
        return set().union(*(modules_of(value) for value in description))
    if isinstance(description, str) and description.startswith("python:"):
        return {description.split(":")[1]}
    return set()


def _described(settings: Mapping[str, object]) -> dict[str, object]:
    return {str(name): describe(value) for name, value in settings.items()}


def _settings(thing: object) -> Mapping[str, object]:
    if is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in fields(thing) if field.init}
    if hasattr(thing, "__dict__") and not hasattr(thing, "__array__"):
        return vars(thing)
    raise InputError(
        f"component: cannot describe a {type(thing).__name__}; "
        "make it a frozen dataclass of numbers and texts, or a function"
    )


def _qualified(thing: Any) -> str:  # noqa: ANN401
    return f"python:{thing.__module__}:{thing.__qualname__}"
