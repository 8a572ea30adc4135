"""AutoAttack: four searches in turn, each on the cases that the earlier ones left unbroken."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import ApgdTargeted
from robustbench_med.attacks.eot import Eot
from robustbench_med.attacks.fab import Fab
from robustbench_med.attacks.gradient import gives_gradients, per_case
from robustbench_med.attacks.margins import decides
from robustbench_med.attacks.queries import wrong_now
from robustbench_med.attacks.square import Square
from robustbench_med.attacks.success import select, where_open
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, PartialWarning
from robustbench_med.model import Model
from robustbench_med.probes import Attack
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, Norm

Version = Literal["standard", "plus", "rand"]


@dataclass(frozen=True)
class Autoattack:
    """Run the published composition; a case leaves it at its first wrong answer.

    A case that is wrong already keeps its clean image. One that nothing breaks gets, of the
    images found, that of the highest task loss. Every search has streams of its own, so that
    what it draws for a case does not depend on which cases are left.

    A model that gives no gradients gets the black-box part alone, Square, and a `PartialWarning`
    says so; "rand" has no such part and refuses it.

    Attributes:
        version: "standard"; "plus", with more restarts and untargeted searches; or "rand", for
            models that answer at random: the mean of 20 answers.

    Source: Croce and Hein, ICML 2020, section 5, arXiv:2003.01690; budgets under l1, "plus" and
    "rand" as in the authors' code. Deviations: below three classes and for flags the margin is
    raised in place of DLR, and below four in place of targeted DLR; no more targets than there
    are wrong answers; "plus" has FAB targeted in both its places.
    """

    version: Version = "standard"

    def __post_init__(self) -> None:
        if self.version not in get_args(Version):
            raise InputError(
                f"autoattack: version must be one of {', '.join(get_args(Version))}, "
                f"got {self.version!r}"
            )

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: If the task is neither classification nor multilabel, or the version
                is "rand" and the model gives no gradients.
            InputError: If the ball needs a context entry that the batch lacks.
        """
        decides("autoattack", model.task)
        if ball.eps == 0:
            return batch.image
        searches = composition(self.version, model.task, ball.norm)
        if self.version == "rand":  # asks the model nothing itself: a single answer means nothing
            return searches[0](model, batch, ball, rng)
        if not gives_gradients(model, batch):
            searches = tuple(search for search in searches if isinstance(search, Square))
            message = (f"autoattack: only square was run: {type(model).__name__} gives no "
                       "gradients")  # fmt: skip
            warnings.warn(PartialWarning(message, batch.case_ids), stacklevel=2)
        return in_turn(searches, model, batch, ball, rng)


def composition(version: Version, task: Task, norm: Norm) -> tuple[Attack, ...]:
    """Searches of a version, in order, for this task and norm."""
    ratio = task.kind == "classification" and len(task.classes) > 2
    second = "dlr" if ratio else "margin"
    if version == "rand":
        return (Eot(_InTurn((Apgd(), Apgd(objective=second))), samples=20),)
    if version == "standard":
        few = norm == "l1"
        targeted = ApgdTargeted(targets=5 if few else 9)
        return Apgd(restarts=5 if few else 1), targeted, Fab(), Square()
    first = Apgd(restarts=5), Apgd(restarts=5, objective=second)
    return *first, Fab(restarts=5), Square(), ApgdTargeted(), Fab()


@dataclass(frozen=True)
class _InTurn:
    """Searches in turn, as one attack."""

    attacks: tuple[Attack, ...]

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        return in_turn(self.attacks, model, batch, ball, rng)


def in_turn(
    attacks: Sequence[Attack], model: Model, batch: Batch, ball: Ball, rng: CaseRng
) -> Tensor:
    """Let each attack search the cases that are not broken yet; return images `(b, c, *s)`."""
    wrong, _ = _broken(model, batch)
    image = batch.image.clone()
    highest = torch.full((len(batch),), -torch.inf, dtype=torch.float64, device=image.device)
    for turn, attack in enumerate(attacks):
        rows = where_open(wrong)
        if not len(rows):
            break
        left = select(batch, rows)
        streams = CaseRng(rng.seed, f"{rng.name}/{turn}", left.case_ids)
        found = ball.stored(attack(model, left, ball, streams), left.image, left.context)
        now_wrong, loss = _broken(model, Batch(left.case_ids, found, left.target, left.context))
        better = now_wrong | (loss > highest[rows])
        image[rows] = found.where(per_case(better, found), image[rows])
        highest[rows] = loss.where(better, highest[rows])
        wrong[rows] = now_wrong
    return image


@torch.no_grad()
def _broken(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which cases are wrong, and the task's loss, both `(b,)`."""
    output = model(batch.image, batch.context)
    loss = model.task.loss(output, batch.target)
    return wrong_now(model.task, output, batch.target), loss.double()
