"""Settings of a cohort that may differ between its splits."""

from collections.abc import Mapping
from typing import TypeVar, cast, get_args

from robustbench_med.components import suggest
from robustbench_med.errors import InputError
from robustbench_med.physics.population import Split

SPLITS = get_args(Split)

T = TypeVar("T")


def of_split(name: str, value: T | Mapping[str, T], split: str) -> T:
    """Return `split`'s own value of `{ train = ..., test = ... }`; any other value as it is.

    Raises:
        InputError: If there is none for the split, or splits stand beside other keys.
    """
    if not isinstance(value, Mapping) or not any(key in SPLITS for key in value):
        return cast("T", value)
    for key in value:
        if key not in SPLITS:
            raise InputError(f"synthetic_cine: {name}: no split {key!r}; {suggest(key, SPLITS)}")
    if split not in value:
        raise InputError(f"synthetic_cine: {name}: nothing for the split {split!r}")
    return cast("T", value[split])
