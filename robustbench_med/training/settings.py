"""How a network is trained: the plan's `[train]` table, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from robustbench_med.components import Kind, build, describe
from robustbench_med.errors import InputError, raise_together
from robustbench_med.training.ranges import wrong
from robustbench_med.training.weights import describe_file

if TYPE_CHECKING:
    from robustbench_med.training.defence import Defence
    from robustbench_med.training.objective import Loss

Optimiser = Literal["adam", "sgd"]
LossWord = Literal["task", "dice_ce"]
ClassWeights = Literal["none", "balanced"]
Augment = Literal["none", "flip"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["mixed", "full"]
WORDS = {
    "optimiser": get_args(Optimiser),
    "loss": get_args(LossWord),
    "class_weights": get_args(ClassWeights),
    "augment": get_args(Augment),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
}
INDIFFERENT = ("workers",)
"""Settings that the weights do not depend on."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training; equal settings, cohort and network give equal weights.

    Attributes:
        epochs: Passes over the cohort. A finished training may be continued with more.
        batch_size: Cases per step and process; the last batch of an epoch may be smaller.
        optimiser: "adam", or "sgd" with Nesterov momentum 0.9.
        learning_rate: Of the first epoch.
        weight_decay: Of the optimiser, an L2 penalty.
        loss: "task", the task's own; "dice_ce", cross-entropy plus soft Dice, for
            segmentation; or a `Loss`, from a plan `{ use = NAME, ... }`.
        class_weights: "balanced" weighs each case by the inverse frequency of its class, for
            classification.
        augment: "flip" mirrors each case on its last axis with probability one half.
        seed: Of the order of cases, dropout, augmentation and the defence.
        defence: What replaces each batch by a harder one; from a plan,
            `{ use = "adversarial", eps = 0.01 }`.
        accumulate: Batches whose gradients make one step together.
        clip: Longest gradient that a step uses, in the l2 norm over all parameters.
        schedule: "cosine" lowers the learning rate from epoch to epoch, towards 0.
        average: Decay of a moving average of the weights, see `Average`; it is what is
            validated and kept.
        validation: Name of the split that a plan scores after each epoch. From Python, hand
            the cohort to `train`.
        patience: Epochs without a lower validation loss after which training stops; the
            weights of the lowest are kept.
        start: File of the weights to start from.
        start_except: Parameters, or modules, that do not come from `start`.
        precision: "mixed" lets CUDA take half precision where torch holds it safe, with scaled
            losses; on a CPU all is in full precision.
        workers: Processes that make cases; the weights do not depend on it.

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
    accumulate: int = 1
    clip: float | None = None
    schedule: Schedule = "constant"
    average: float | None = None
    validation: str | None = None
    patience: int | None = None
    start: str | None = None
    start_except: tuple[str, ...] = ()
    precision: Precision = "mixed"
    workers: int = 0

    def __post_init__(self) -> None:
        raise_together([f"train: {problem}" for problem in wrong(self, WORDS)])
        object.__setattr__(self, "start_except", tuple(self.start_except))
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
        """Return what decides the weights as plain data, for the card and for checkpoints.

        Files of weights (`start`, and those that a loss or a defence reads) are told by their
        digest.

        Raises:
            InputError: If such a file is not there.
        """
        names = [field.name for field in fields(self) if field.name not in INDIFFERENT]
        told = {name: _described(getattr(self, name)) for name in names}
        return told if self.start is None else told | {"start": describe_file(Path(self.start))}


def with_defaults(described: Mapping[str, object]) -> dict[str, object]:
    """Settings as an older card tells them, those that are younger than it as by default."""
    return {**TrainSettings().described(), **described}


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
