"""The model card: what weights are of, beside them (`unet.safetensors`, `unet.json`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robustbench_med.cases import Bounds, Cohort, Task, digest_of
from robustbench_med.errors import InputError
from robustbench_med.runfolder import write_json

VERSION = 1


@dataclass(frozen=True)
class Card:
    """Everything needed to rebuild a trained network and to know where it comes from.

    Attributes:
        network: Name that `build("networks", ...)` accepts.
        settings: What it is built with: preset, in_channels, classes, size.
        task: What it answers.
        bounds: The intensities it expects.
        parameters: Number of trained values.
        weights_sha256: Of the weights' file.
        cohort: Name of the cohort it was trained on.
        cohort_digest: See `cohort_digest`.
        validation_digest: Of the cases that were scored after each epoch; empty without any.
        training: `TrainSettings.described()`.
        processes: That trained together, each with batches of its own.
        curve: What `train` returned.
        versions: Of this package, torch and Python.
        date: When the weights were written, ISO 8601, UTC.
        operating_points: Thresholds by name of the metric, each with `threshold`, the interval
            `low` to `high` that it would vary in between such cohorts, `rule`, `split`,
            `cohort_digest`, `patients` and `positives`.
    """

    network: str
    settings: Mapping[str, Any]
    task: Task
    bounds: Bounds
    parameters: int
    weights_sha256: str
    cohort: str
    cohort_digest: str
    training: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    operating_points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    validation_digest: str = ""
    processes: int = 1


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies."""
    return weights.with_suffix(".json")


def write_card(weights: Path, card: Card) -> Path:
    """Write the card beside `weights`, whole or not at all, and return its path."""
    path = card_path(weights)
    write_json(path, {"schema_version": VERSION, **asdict(card)})
    return path


def read_card(weights: Path) -> Card | None:
    """Read the card beside `weights`; None where there is none.

    Raises:
        InputError: If it is not JSON, of another version, or misses an entry.
    """
    path = card_path(weights)
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"model card {path}: not JSON: {error}") from error
    if not isinstance(entries, dict) or entries.pop("schema_version", None) != VERSION:
        raise InputError(
            f"model card {path}: expected schema_version {VERSION}; train again, or delete the "
            "card and name the settings in the plan"
        )
    try:
        low, high = (float(value) for value in entries.pop("bounds"))
        told = entries.pop("task")
        task = Task(told["kind"], tuple(told["classes"]))
        return Card(task=task, bounds=(low, high), **entries)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"model card {path}: entry missing or malformed: {error}") from error


def cohort_digest(cohort: Cohort) -> str:
    """Hash of all cases, their ids and attributes, as in a run's manifest.

    Decodes every case, unless the cohort knows its summaries.
    """
    return digest_of(cohort.summary(index) for index in range(len(cohort)))
