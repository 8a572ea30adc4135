"""Reading a plan's tables field by field, so that all mistakes are told at once."""

import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustbench_med.components import Kind, build, check_settings, suggest
from robustbench_med.errors import RobustbenchMedError
from robustbench_med.probes import MOST_SEVERITY
from robustbench_med.threat import Ball

VARIABLE = re.compile(r"\$\{(\w+)\}")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def expand(content: Any, where: str, problems: list[str]) -> Any:  # noqa: ANN401
    """Replace `${NAME}` in every text by the environment variable of that name."""
    if isinstance(content, Mapping):
        return {key: expand(value, f"{where}: {key}", problems) for key, value in content.items()}
    if isinstance(content, list):
        return [expand(value, where, problems) for value in content]
    if not isinstance(content, str):
        return content
    problems += [
        f"{where}: environment variable {name} is not set; "
        f"set it to what stands for it in {content!r}"
        for name in VARIABLE.findall(content)
        if name not in os.environ
    ]
    return VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), content)


class Fields:
    """One table of a plan. Each read takes its key; problems gather instead of raising."""

    def __init__(self, content: object, where: str, problems: list[str]) -> None:
        """Read `content`, telling problems as lines that start with `where`."""
        self.where = where
        self.problems = problems
        self.known: list[str] = []
        self.left: dict[str, Any] = dict(content) if isinstance(content, Mapping) else {}
        if not isinstance(content, Mapping):
            self.tell(f"expected a table, got {content!r}")
            self.problems = []

    def tell(self, problem: str) -> None:
        """Note one problem of this table."""
        self.problems.append(f"{self.where}: {problem}")

    def has(self, key: str) -> bool:
        """Whether the key was given and not read yet."""
        self.known.append(key)
        return key in self.left

    def is_false(self, key: str) -> bool:
        """Whether the key stands for "not at all"; it is read then."""
        off = self.left.get(key) is False
        if off:
            self._take(key, None)
        return off

    def text(self, key: str, default: str | None = "") -> Any:  # noqa: ANN401
        """Read a text; "" as default means that it must be there."""
        value = self._take(key, default)
        if value is None or (isinstance(value, str) and value):
            return value
        self.tell(f"{key}: expected a text, got {value!r}" if value != "" else f"{key} is missing")
        return ""

    def name(self, key: str) -> str:
        """Read a name that is safe as a folder's."""
        value = str(self.text(key))
        if value and not RUN_NAME.fullmatch(value):
            self.tell(f"{key}: expected letters, digits, '.', '_' and '-' only, got {value!r}")
        return value

    def integer(self, key: str, default: int | None, *, least: int) -> Any:  # noqa: ANN401
        """Read a whole number of at least `least`."""
        if key not in self.left:
            return self._take(key, default)
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.tell(f"{key}: expected a whole number of at least {least}, got {value!r}")
            return default
        return value

    def share(self, key: str, default: float) -> float:
        """Read a number from 0 to 1."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            self.tell(f"{key}: expected a number from 0 to 1, got {value!r}")
            return default
        return float(value)

    def number(self, key: str) -> float | None:
        """Read a finite number; None where there is none."""
        value = self._take(key, None)
        if value is None or _is_number(value):
            return None if value is None else float(value)
        self.tell(f"{key}: expected a finite number, got {value!r}")
        return None

    def choice(self, key: str, options: Sequence[str]) -> str:
        """Read one of `options`; the first is the default."""
        value = self._take(key, options[0])
        if value not in options:
            self.tell(f"{key}: expected {', '.join(options)}, got {value!r}")
        return str(value)

    def table(self, key: str) -> "Fields":
        """Read a table that must be there; of one that is not, nothing more is told."""
        where = f"{self.where}: {key}"
        if self.has(key):
            return Fields(self._take(key, {}), where, self.problems)
        self.tell(f"[{key}] is missing")
        return Fields({}, where, [])

    def tables(self, key: str) -> "list[Fields]":
        """Read a list of tables, empty where there is none."""
        content = self._take(key, [])
        if not isinstance(content, list):
            self.tell(f"{key}: expected a list of tables, each under [[{key}]], got {content!r}")
            return []
        return [
            Fields(entry, f"{self.where}: {key} {i}", self.problems)
            for i, entry in enumerate(content, start=1)
        ]

    def columns(self, key: str) -> tuple[tuple[str, ...], ...]:
        """Read a list of columns and of lists of columns."""
        groups = self._take(key, [])
        found: list[tuple[str, ...]] = []
        for group in groups if isinstance(groups, list) else [groups]:
            columns = [group] if isinstance(group, str) else group
            if isinstance(columns, list) and columns and all(isinstance(c, str) for c in columns):
                found.append(tuple(columns))
            else:
                self.tell(f"{key}: expected names of attributes or lists of them, got {group!r}")
        return tuple(found)

    def names(self, key: str) -> tuple[str, ...]:
        """Read a list of names, each there once."""
        values = self._take(key, [])
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            self.tell(f"{key}: expected a list of names of attributes, got {values!r}")
            return ()
        for name in dict.fromkeys(name for name in values if values.count(name) > 1):
            self.tell(f"{key}: {name!r} is there {values.count(name)} times")
        return tuple(values)

    def severities(self, key: str, who: str) -> tuple[float, ...]:
        """Read the severities of the shift `who`, a list of numbers from 0 to 5."""
        values = self._take(key, [])
        good = isinstance(values, list) and values and all(_is_severity(value) for value in values)
        if not good:
            most = f"from 0 to {MOST_SEVERITY}" + (f" for {who}" if who else "")
            self.tell(f"{key}: expected a list of numbers {most}, got {values!r}")
            return ()
        return tuple(float(value) for value in values)

    def balls(self, key: str) -> tuple[dict[str, Any], ...]:
        """Read a ball's table, whose eps may be a list: one ball table for each eps."""
        fields = self.table(key)
        content = fields.rest()
        eps = content.get("eps")
        if eps == []:
            fields.tell("eps: expected at least one number, got []")
        found = []
        for value in eps if isinstance(eps, list) else [eps]:
            one = content | {"eps": value}
            # The cohort's bounds are not known yet; these stand for them.
            fields.attempt(Ball, {"bounds": (0.0, 1.0), **one} if "levels" in one else one)
            found.append(one)
        return tuple(found)

    def rest(self) -> dict[str, Any]:
        """Take every key that is left."""
        left, self.left = self.left, {}
        return left

    def refuse_rest(self) -> None:
        """Tell every key that nothing has read."""
        for key in self.left:
            self.tell(f"unknown key {key!r}; {suggest(key, list(dict.fromkeys(self.known)))}")

    def check_component(
        self, kind: Kind, use: str, settings: Mapping[str, Any], *, build_it: bool = True
    ) -> None:
        """Tell what a component's name or settings have wrong, building it unless costly."""
        if use:
            try:
                check_settings(kind, use, settings)
                if build_it:
                    build(kind, use, **settings)
            except RobustbenchMedError as error:
                self.problems += [f"{self.where}: {line}" for line in str(error).splitlines()]

    def attempt(self, what: Callable[..., object], given: Mapping[str, Any]) -> None:
        """Tell unknown or missing keys of `what`, else what calling it with them raises."""
        taken = inspect.signature(what).parameters
        unknown = [key for key in given if key not in taken]
        for key in unknown:
            self.tell(f"unknown key {key!r}; {suggest(key, list(taken))}")
        required = [k for k, p in taken.items() if p.default is p.empty and given.get(k) is None]
        for key in required:
            self.tell(f"{key} is missing")
        if not unknown and not required:
            try:
                what(**given)
            except (RobustbenchMedError, TypeError) as error:
                own = f"{self.where.rpartition(': ')[2]}: "  # a ball says itself that it is one
                for line in str(error).splitlines():
                    self.tell(line.removeprefix(own))

    def _take(self, key: str, default: Any) -> Any:  # noqa: ANN401
        self.known.append(key)
        return self.left.pop(key, default)


def _is_severity(value: Any) -> bool:  # noqa: ANN401
    return _is_number(value) and 0 <= value <= MOST_SEVERITY


def _is_number(value: Any) -> bool:  # noqa: ANN401
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
