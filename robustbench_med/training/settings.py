"""How a network is trained: the plan's `[train]` table, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from robustbench_med.components import Kind, build, describe
from robustbench_med.errors import InputError, raise_together
from robustbench_med.training.weights import describe_file

if TYPE_CHECKING:
    from robustbench_med.training.loop import Defence
    from robustbench_med.training.objective import Loss

Optimiser = Literal["adam", "sgd"]
LossWord = Literal["task", "dice_ce"]
ClassWeights = Literal["none", "balanced"]
Augment = Literal["none", "flip"]
WORDS = {
    "optimiser": get_args(Optimiser),
    "class_weights": get_args(ClassWeights),
    "augment": get_args(Augment),
}


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training; equal settings, cohort and network give equal weights.

    Attributes:
        epochs: Passes over the cohort. A finished training may be continued with more.
        batch_size: Cases per step; the last batch of an epoch may be smaller.
        optimiser: "adam", or "sgd" with Nesterov momentum 0.9.
        learning_rate: Constant.
        weight_decay: Of the optimiser, an L2 penalty.
        loss: "task", the task's own; "dice_ce", cross-entropy plus soft Dice, for
            segmentation; or a `Loss`, from a plan `{ use = NAME, ... }`.
        class_weights: "balanced" weighs each case by the inverse frequency of its class, for
            classification.
        augment: "flip" mirrors each case on its last axis with probability one half.
        seed: Of the order of cases, dropout, augmentation and the defence.
        defence: What replaces each batch by a harder one; from a plan,
            `{ use = "adversarial", eps = 0.01 }`.

    Raises:
        InputError: If any of these is out of range; all mistakes at once.
    """

    epochs: int = 20
    batch_size: int = 16
    optimiser: Optimiser = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    loss: "LossWord | Loss | Mapping[str, object]" = "task"
    class_weights: ClassWeights = "none"
    augment: Augment = "none"
    seed: int = 0
    defence: "Defence | Mapping[str, object] | None" = None

    def __post_init__(self) -> None:
        problems = [*_wrong_counts(self), *_wrong_numbers(self), *_wrong_words(self)]
        raise_together([f"train: {problem}" for problem in problems])
        self._build("defence", "defences", "defence(model, batch, rng)")
        if not isinstance(self.loss, str):
            self._build("loss", "losses", "loss(model, batch)")

    def _build(self, name: str, kind: Kind, called: str) -> None:
        """Put what a plan's table names in the table's place."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            object.__setattr__(self, name, _built(name, kind, value))
        elif not callable(value) and (name, value) != ("defence", None):
            raise InputError(
                f"train: {name} must be a table with use = NAME, or called as {called}, "
                f"got {value!r}"
            )

    def described(self) -> dict[str, object]:
        """Return the settings as plain data, for the card and for checkpoints.

        Weights that a loss or a defence reads are told by the digest of their file.

        Raises:
            InputError: If such a file is not there.
        """
        return {field.name: _described(getattr(self, field.name)) for field in fields(self)}


def _described(value: object) -> object:
    plain = describe(value)
    if isinstance(plain, dict) and isinstance(plain.get("weights"), str):
        plain["weights"] = describe_file(Path(plain["weights"]))
    return plain


def _built(name: str, kind: Kind, table: Mapping[str, object]) -> object:
    settings = dict(table)
    use = settings.pop("use", None)
    if not isinstance(use, str):
        raise InputError(f"train: {name} needs use = NAME, got {dict(table)}")
    return build(kind, use, **settings)


def _wrong_counts(settings: TrainSettings) -> list[str]:
    least = {"epochs": 1, "batch_size": 1, "seed": 0}
    return [
        f"{name} must be a whole number, at least {low}, got {value!r}"
        for name, low in least.items()
        if type(value := getattr(settings, name)) is not int or value < low
    ]


def _wrong_numbers(settings: TrainSettings) -> list[str]:
    rate, decay = settings.learning_rate, settings.weight_decay
    problems = []
    if not _is_number(rate) or not 0 < rate < math.inf:
        problems.append(f"learning_rate must be a finite number above 0, got {rate!r}")
    if not _is_number(decay) or not 0 <= decay < math.inf:
        problems.append(f"weight_decay must be a finite number, at least 0, got {decay!r}")
    return problems


def _wrong_words(settings: TrainSettings) -> list[str]:
    words = {**WORDS, "loss": get_args(LossWord)} if isinstance(settings.loss, str) else WORDS
    return [
        f"{name} must be one of {', '.join(legal)}, got {getattr(settings, name)!r}"
        for name, legal in words.items()
        if getattr(settings, name) not in legal
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
