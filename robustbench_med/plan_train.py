"""The plan's `[train]` table: checked as far as it can be without data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_med.plan_fields import Fields
from robustbench_med.plan_splits import TRAINED_ON, takes_split
from robustbench_med.shipped import located

COMPONENTS = ("loss", "defence")


def read_train(fields: Fields, folder: Path, use: str, tested: str | None) -> dict[str, Any] | None:
    """Read the table `train`, telling problems; None where there is none.

    Args:
        fields: Of the plan.
        folder: Of the plan: files of weights start there.
        use: Which cohort is trained on.
        tested: The split that the plan tests.
    """
    if not fields.has("train"):
        return None
    from robustbench_med.training.settings import TrainSettings

    table = fields.table("train")
    settings = _located(table.rest(), folder)
    table.attempt(TrainSettings, settings)
    _check_validation(table, settings, use, tested)
    return settings


def _located(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with files of weights where they are, whatever the working directory."""
    found = dict(settings)
    if isinstance(found.get("start"), str) and found["start"]:
        found["start"] = str(located(found["start"], folder))
    for key in COMPONENTS:
        component = found.get(key)
        if isinstance(component, Mapping) and isinstance(component.get("weights"), str):
            found[key] = {**component, "weights": str(located(component["weights"], folder))}
    return found


def _check_validation(
    table: Fields, settings: Mapping[str, Any], use: str, tested: str | None
) -> None:
    split = settings.get("validation")
    if split is None:
        if settings.get("patience") is not None:
            table.tell("patience: needs validation = SPLIT, whose loss it waits for")
    elif split == TRAINED_ON:
        table.tell(f"validation: {split!r} is trained on: its loss only falls; name another")
    elif split == tested:
        table.tell(f"validation: {split!r} is tested: what is chosen on it flatters; name another")
    elif not takes_split(use):
        table.tell(f"validation: the cohort {use!r} has no setting 'split'")
