"""What to raise until a classification is wrong: cross-entropy, margins and their ratio.

Each has `until_wrong`: a search that raises it may stop at the first wrong answer of a case.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.objective import require_task
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError

_TINY = 1e-12


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the true class; for flags the sum of their logistic losses.

    The same as the task's own loss, up to a factor, but done once the answer is wrong: at the
    highest output, or at a flag's threshold, a logit of 0.
    """

    until_wrong: ClassVar[bool] = True

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        _check("ce", task)
        if task.kind == "multilabel":
            flags = (batch.target > 0).to(output)
            return F.binary_cross_entropy_with_logits(output, flags, reduction="none").sum(dim=1)
        return F.cross_entropy(output, batch.target, reduction="none")


@dataclass(frozen=True)
class Margin:
    """By how much the answer is wrong: the best other logit less the true one.

    For flags the furthest that one of them lies on the wrong side of its threshold, a logit of
    0. Above 0 the answer is wrong. Any number of classes.

    Source: Carlini and Wagner, S&P 2017, section V.A, loss f6 without its floor,
    arXiv:1608.04644. Deviation: the form for flags.
    """

    until_wrong: ClassVar[bool] = True

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        _check("margin", task)
        return wrongness(output, batch.target, task).amax(dim=1)


@dataclass(frozen=True)
class Dlr:
    """Difference of logits ratio: the margin over the distance of the first to the third logit.

    Neither a shift nor a scale of the logits changes it, so saturated logits hide nothing.

    Source: Croce and Hein, ICML 2020, equation 6, arXiv:2003.01690.
    """

    until_wrong: ClassVar[bool] = True

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            UnsupportedError: If the task is no classification into three classes or more.
        """
        _check_classes("dlr", task, least=3)
        top = output.topk(3, dim=1).values
        margin = wrongness(output, batch.target, task).amax(dim=1)
        return margin / (top[:, 0] - top[:, 2] + _TINY)


@dataclass(frozen=True)
class DlrTargeted:
    """Targeted ratio: how far a wrong class lies above the true one, over the spread of logits.

    Attributes:
        rank: Which wrong class, 1 for the one with the highest logit. It is ranked in the output
            at hand; `apgd_targeted` fixes the classes at the clean images instead.

    Source: Croce and Hein, ICML 2020, equation 7, arXiv:2003.01690.
    """

    until_wrong: ClassVar[bool] = True
    rank: int = 1

    def __post_init__(self) -> None:
        rank: object = self.rank
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise InputError(f"dlr_targeted: rank must be at least 1, got {rank!r}")

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            UnsupportedError: If the task is no classification into four classes or more.
            InputError: If the task has no class of that rank.
        """
        _check_classes("dlr_targeted", task, least=4)
        others = len(task.classes) - 1
        if self.rank > others:
            raise InputError(f"dlr_targeted: rank must be 1 to {others}, got {self.rank}")
        aim = easiest(output.detach(), batch.target, task)[:, self.rank - 1]
        return targeted_ratio(output, batch.target, task, aim)


def wrongness(output: Tensor, target: Tensor, task: Task) -> Tensor:
    """How wrong each answer would be, `(b, k)`: above 0 where it wins over the truth.

    For a class its logit less the true one's, minus infinity for the true class itself; for a
    flag its logit's distance beyond the threshold 0, on the side where the flag is wrong.
    """
    if task.kind == "multilabel":
        return output.where(target <= 0, -output)
    truth = F.one_hot(target, output.shape[1]).bool()
    return (output - output.gather(1, target[:, None])).masked_fill(truth, -float("inf"))


def easiest(output: Tensor, target: Tensor, task: Task) -> Tensor:
    """Wrong answers of each case, the nearest first: `(b, k - 1)` classes, or `(b, k)` flags."""
    order = wrongness(output, target, task).argsort(dim=1, descending=True, stable=True)
    return order if task.kind == "multilabel" else order[:, :-1]


def targeted_ratio(output: Tensor, target: Tensor, task: Task, aim: Tensor) -> Tensor:
    """Targeted DLR towards the class `aim` of each case; needs four classes, `(b,)`."""
    top = output.topk(4, dim=1).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY
    return wrongness(output, target, task).gather(1, aim[:, None]).squeeze(1) / spread


def decides(who: str, task: Task) -> None:
    """Refuse a task that does not end in one decision per case.

    Raises:
        UnsupportedError: If the task is neither classification nor multilabel.
    """
    instead = 'apgd or pgd with objective = "task"'
    require_task(who, task, ("classification", "multilabel"), instead)


def _check(name: str, task: Task) -> None:
    decides(f"objective {name}", task)


def _check_classes(name: str, task: Task, least: int) -> None:
    _check(name, task)
    if task.kind == "multilabel" or len(task.classes) < least:
        raise UnsupportedError(
            f"objective {name}: needs a classification into {least} classes or more, got "
            f'{task.kind} with {len(task.classes)}; use objective = "margin"'
        )
