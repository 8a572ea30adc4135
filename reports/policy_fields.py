"""Reads one table of a policy file, collecting complaints instead of stopping at the first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from robustbench_med.components import suggest
from robustbench_med.reports.wording import CROSS


@dataclass(frozen=True)
class Fields:
    """One table of the file.

    Attributes:
        entry: Its keys and values, as TOML gave them.
        where: Begins each complaint.
        problems: Where complaints go.
    """

    entry: Mapping[str, Any]
    where: str
    problems: list[str]

    def complain(self, text: str) -> None:
        """Note a mistake."""
        self.problems.append(f"{self.where}: {text}")

    def refuse_unknown(self, keys: Sequence[str]) -> None:
        """Complain about each key that is not one of `keys`."""
        for key in self.entry:
            if key not in keys:
                self.complain(f"unknown key {key!r}; {suggest(key, keys)}")

    def text(self, key: str) -> str:
        """A text that must be there and not be blank."""
        value = self.entry.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self.complain(f"{key} must be a text that is not empty, got {_shown(value)}")
        return ""

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """One of `allowed`, or `default` where the key is not there."""
        value = self.entry.get(key, default)
        if value not in allowed:
            self.complain(f"{key} {_shown(value)}: {suggest(str(value), allowed)}")
            return default
        return str(value)

    def number(self, key: str) -> float:
        """A finite number that must be there."""
        value = self.entry.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        self.complain(f"{key} must be a finite number, got {_shown(value)}")
        return 0.0

    def whole(self, key: str, default: int) -> int:
        """A whole number of at least 1, or `default` where the key is not there."""
        value = self.entry.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self.complain(f"{key} must be a whole number of at least 1, got {_shown(value)}")
        return default

    def day(self, key: str) -> date:
        """A TOML date that must be there."""
        value = self.entry.get(key)
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        self.complain(f"{key} must be a date such as 2027-03-01, unquoted, got {_shown(value)}")
        return date.min

    def subgroup(self) -> tuple[tuple[str, ...], str | None]:
        """Attributes, and the one group of them if the text names one as "sex=F"."""
        value = self.entry.get("subgroup", [])
        if isinstance(value, str) and value.strip():
            attribute, equals, group = value.partition("=")
            if not attribute.strip() or (equals and not group.strip()):
                self.complain(f"subgroup must read like 'sex' or 'sex=F', got {value!r}")
            names = tuple(name.strip() for name in attribute.split(CROSS.strip()))
            return names, group.strip() if equals else None
        if not isinstance(value, list) or not all(_is_name(name) for name in value):
            self.complain(f"subgroup must be 'sex', 'sex=F' or a list of names, got {value!r}")
            return (), None
        if ("subgroup" in self.entry and not value) or len(set(value)) < len(value):
            self.complain(f"subgroup must name different attributes, got {value!r}")
        return tuple(value), None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "=" not in value


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)
