"""What an attack on a segmentation raises, voxel by voxel."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.objective import require_task
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError


@dataclass(frozen=True)
class MaskedCe:
    """The mean cross-entropy of voxels that are still right.

    A voxel that is wrong already has no slope, and counts `log k`, the most that a right one can:
    so the value only rises when a voxel turns, and an attack that keeps the highest value keeps
    the most wrong voxels.

    Source: Croce, Singh, Hein, ECCV 2024, section on losses (SEA), arXiv:2306.12941, recalled.
    Deviation: there a wrong voxel counts 0, and the best point is kept by another quantity.
    """

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("masked_ce", output, batch, task)
        return _masked(output, batch.target).flatten(start_dim=1).mean(dim=1)


@dataclass(frozen=True)
class BalancedCe:
    """`masked_ce` with every class of the truth at the same weight, however small.

    Each voxel is weighted by one over the number of voxels of its true class in its case; the
    value is the mean over the classes that the truth has.

    Source: as `MaskedCe`, its balanced loss, recalled. Deviation: frequencies are the case's own.
    """

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("balanced_ce", output, batch, task)
        target = batch.target.flatten(start_dim=1)
        counts = F.one_hot(target, output.shape[1]).sum(dim=1)
        classes = (counts > 0).sum(dim=1, keepdim=True)
        weights = 1 / (counts.gather(1, target) * classes).to(output)
        return (weights * _masked(output, batch.target).flatten(start_dim=1)).sum(dim=1)


@dataclass(frozen=True)
class Js:
    """The mean Jensen-Shannon divergence of a voxel's probabilities to its one-hot truth.

    Between 0 and log 2. It depends on the true class's probability q alone:
    `log 2 + (q log q - (1 + q) log(1 + q)) / 2`. Its slope vanishes where a voxel is very wrong,
    so that effort goes to the others.

    Source: Croce, Singh, Hein, ECCV 2024 (SEA), arXiv:2306.12941, recalled; the form in q is ours.
    """

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("js", output, batch, task)
        log_q = -F.cross_entropy(output, batch.target, reduction="none")
        q = log_q.exp()
        divergence = math.log(2) + (q * log_q - (1 + q) * q.log1p()) / 2
        return divergence.flatten(start_dim=1).mean(dim=1)


def right(output: Tensor, target: Tensor) -> Tensor:
    """Voxels whose highest logit is the true class's, `(b, *s)`, boolean."""
    return output.argmax(dim=1) == target


@torch.no_grad()
def harm(output: Tensor, target: Tensor) -> Tensor:
    """Wrong voxels of each case, plus a part below 1 that ranks equal counts by cross-entropy.

    Returns:
        `(b,)`, float64.
    """
    wrong = (~right(output, target)).flatten(start_dim=1).sum(dim=1)
    entropy = F.cross_entropy(output.double(), target, reduction="none")
    mean = entropy.flatten(start_dim=1).mean(dim=1)
    return wrong + 1 - 1 / (1 + mean)


def require_segmentation(who: str, output: Tensor, batch: Batch, task: Task) -> None:
    """Refuse what is no segmentation.

    Raises:
        UnsupportedError: If the task is another.
        InputError: If the target holds no label for each voxel of the output.
    """
    require_task(who, task, ("segmentation",), "task, or an objective listed for that task")
    if output.ndim < 3 or batch.target.shape != output.shape[:1] + output.shape[2:]:
        raise InputError(
            f"{who}: needs a segmentation, output (b, k, *s) and target (b, *s), "
            f"got {tuple(output.shape)} and {tuple(batch.target.shape)}"
        )


def _masked(output: Tensor, target: Tensor) -> Tensor:
    entropy = F.cross_entropy(output, target, reduction="none")
    return entropy.where(right(output, target), math.log(output.shape[1]))
