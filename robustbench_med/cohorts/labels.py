"""Which stored value means which class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from robustbench_med.cohorts.pixels import Array
from robustbench_med.components import suggest
from robustbench_med.errors import InputError

Stored = int | str
Labels = str | Mapping[str, Stored | Sequence[Stored]]

# Short-axis cardiac MR: every schema gives the same class order.
# Sources: acdc, Bernard et al., IEEE TMI 2018, doi:10.1109/TMI.2018.2837502; mnms, Campello
# et al., IEEE TMI 2021, doi:10.1109/TMI.2021.3090082.
SCHEMAS: Mapping[str, Mapping[str, int]] = {
    "acdc": {"background": 0, "lv": 3, "myo": 2, "rv": 1},
    "mnms": {"background": 0, "lv": 1, "myo": 2, "rv": 3},
    "ukbb": {"background": 0, "lv": 1, "myo": 2, "rv": 3},
}


@dataclass(frozen=True)
class LabelSchema:
    """Class names in order, each with the values that files store for it.

    Attributes:
        names: Class `i` is `names[i]`.
        stored: Values per class, as texts; a number has one spelling ("1", not "1.0").
    """

    names: tuple[str, ...]
    stored: tuple[tuple[str, ...], ...]

    def index(self, value: str) -> int | None:
        """Return the class of a table cell; None if no class has that value."""
        wanted = plain(value)
        return next((i for i, values in enumerate(self.stored) if wanted in values), None)

    def problem(self, mask: Array) -> str | None:
        """Say which values of a mask mean no class; None if all of them do."""
        known = np.zeros(mask.shape, dtype=bool)
        for value in chain.from_iterable(self.stored):
            known |= mask == float(value)
        foreign = np.unique(mask[~known])
        if not foreign.size:
            return None
        shown = ", ".join(f"{value:g}" for value in foreign[:5].tolist())
        more = f" and {foreign.size - 5} more" if foreign.size > 5 else ""
        return f"values {shown}{more} are not in the label schema ({self})"

    def classes(self, mask: Array) -> NDArray[np.int64]:
        """Turn a mask without foreign values into class indices of the same shape."""
        classes = np.zeros(mask.shape, dtype=np.int64)
        for index, values in enumerate(self.stored):
            for value in values:
                classes[mask == float(value)] = index
        return classes

    def __str__(self) -> str:
        pairs = zip(self.names, self.stored, strict=True)
        return ", ".join(f"{name} = {'/'.join(values)}" for name, values in pairs)


def label_schema(labels: object) -> LabelSchema:
    """Return a named schema, or the one that a mapping of class names to values states.

    Raises:
        InputError: If no schema has that name, or a value is empty or stands for two classes.
    """
    if isinstance(labels, str):
        if labels not in SCHEMAS:
            raise InputError(f"labels: no schema {labels!r}; {suggest(labels, sorted(SCHEMAS))}")
        labels = SCHEMAS[labels]
    if not isinstance(labels, Mapping) or not labels:
        raise InputError(f"labels: expected class names with stored values, got {labels!r}")
    stored = tuple(_texts(name, values) for name, values in labels.items())
    every = list(chain.from_iterable(stored))
    twice = sorted({value for value in every if every.count(value) > 1})
    if twice:
        raise InputError(f"labels: stored values {twice} stand for more than one class")
    return LabelSchema(tuple(labels), stored)


def mask_schema(labels: object) -> LabelSchema:
    """Return `label_schema`, refused unless every stored value is a number."""
    schema = label_schema(labels)
    words = [value for value in chain.from_iterable(schema.stored) if not _is_number(value)]
    if words:
        raise InputError(f"labels: a mask stores numbers, got {words}")
    return schema


def plain(value: object) -> str:
    """Spell a table cell or a plan's value in one way: `1`, `"1"` and `"1.0"` alike."""
    text = str(value).strip()
    if _is_number(text) and float(text).is_integer() and abs(float(text)) < 2**53:
        return str(int(float(text)))
    return text


def _texts(name: str, values: object) -> tuple[str, ...]:
    several = values if isinstance(values, list | tuple) else [values]
    texts = tuple(plain(value) for value in several)
    known = all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in several)
    if not texts or not all(texts) or not known:
        raise InputError(f"labels: {name}: expected a number or text (or some), got {values!r}")
    return texts


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()
