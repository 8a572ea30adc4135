"""How a network is trained: the plan's `[train]` table, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

from robustbench_med.components import build, describe
from robustbench_med.errors import InputError, raise_together

if TYPE_CHECKING:
    from robustbench_med.training.loop import Defence

Optimiser = Literal["adam", "sgd"]
Loss = Literal["task", "dice_ce"]
ClassWeights = Literal["none", "balanced"]
Augment = Literal["none", "flip"]
WORDS = {
    "optimiser": get_args(Optimiser),
    "loss": get_args(Loss),
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
        loss: "task", the task's own; or "dice_ce", cross-entropy plus soft Dice, for
            segmentation.
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
    loss: Loss = "task"
    class_weights: ClassWeights = "none"
    augment: Augment = "none"
    seed: int = 0
    defence: "Defence | Mapping[str, object] | None" = None

    def __post_init__(self) -> None:
        problems = [*_wrong_counts(self), *_wrong_numbers(self), *_wrong_words(self)]
        raise_together([f"train: {problem}" for problem in problems])
        if isinstance(self.defence, Mapping):
            object.__setattr__(self, "defence", _built(self.defence))
        if self.defence is not None and not callable(self.defence):
            raise InputError(
                "train: defence must be a table with use = NAME, or called as "
                f"defence(model, batch, rng), got {self.defence!r}"
            )

    def described(self) -> dict[str, object]:
        """Return the settings as plain data, for the card and for checkpoints."""
        return {field.name: describe(getattr(self, field.name)) for field in fields(self)}


def _built(table: Mapping[str, object]) -> "Defence":
    settings = dict(table)
    use = settings.pop("use", None)
    if not isinstance(use, str):
        raise InputError(f"train: defence needs use = NAME, got {dict(table)}")
    defence: Defence = build("defences", use, **settings)
    return defence


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
    return [
        f"{name} must be one of {', '.join(legal)}, got {getattr(settings, name)!r}"
        for name, legal in WORDS.items()
        if getattr(settings, name) not in legal
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
