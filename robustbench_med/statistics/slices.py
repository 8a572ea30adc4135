"""Subgroups: the cases that share values of one attribute, or of several."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.components import suggest
from robustbench_med.errors import InputError

NOT_RECORDED = "not recorded"
CROSS = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True)
class Slice:
    """The cases with given values of some attributes; no attribute, all cases.

    Attributes:
        columns: Of the cases table.
        values: One text per column, as `recorded` writes it.
    """

    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def subgroup(self) -> str:
        """Name of the attributes: "", "sex", "sex x age_band" with a multiplication sign."""
        return CROSS.join(self.columns)

    @property
    def group(self) -> str:
        """Name of the values; "all" for everyone."""
        return CROSS.join(self.values) or "all"

    def mask(self, cases: pd.DataFrame) -> NDArray[np.bool_]:
        """Say which rows of the cases table belong, `(cases,)`.

        Raises:
            InputError: If the table lacks a column.
        """
        chosen = np.ones(len(cases), dtype=bool)
        for column, value in zip(self.columns, self.values, strict=True):
            chosen &= (recorded(cases, column) == value).to_numpy(dtype=bool)
        return chosen


EVERYONE = Slice()


def slices_of(cases: pd.DataFrame, columns: Sequence[str]) -> list[Slice]:
    """List the slices of a subgroup that have at least one case.

    In order of the values, numbers in them read as numbers; "not recorded" comes last.

    Args:
        cases: One row per case.
        columns: Attributes; several make their intersections.

    Raises:
        InputError: If the table lacks a column.
    """
    texts = [recorded(cases, column) for column in columns]
    found = set(zip(*texts, strict=True))
    return [Slice(tuple(columns), values) for values in sorted(found, key=_order)]


def recorded(cases: pd.DataFrame, column: str) -> pd.Series:
    """Write an attribute as text, "not recorded" where it is missing.

    Raises:
        InputError: If the table lacks the column.
    """
    if column not in cases.columns:
        attributes = [name for name in cases.columns if name not in {"case_id", "patient_id"}]
        raise InputError(
            f"subgroups: no attribute {column!r} in the cases; {suggest(column, attributes)}"
        )
    codes, values = pd.factorize(cases[column].astype(object))
    texts = np.array([*(_text(value) for value in values), NOT_RECORDED], dtype=object)
    return pd.Series(texts[codes], index=cases.index, dtype=object)


def _text(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if whole else str(value)


def _order(values: tuple[str, ...]) -> list[tuple[bool, float, str]]:
    numbers = [re.search(r"\d+(\.\d+)?", value) for value in values]
    return [
        (value == NOT_RECORDED, float(number[0]) if number else np.inf, value)
        for value, number in zip(values, numbers, strict=True)
    ]
