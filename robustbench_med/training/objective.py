"""What training lowers: one value per case."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.training.settings import TrainSettings

Objective = Callable[[Tensor, Tensor], Tensor]
SMOOTH = 1.0


def objective(cohort: Cohort, settings: TrainSettings) -> Objective:
    """Choose the loss `(output, target) -> (b,)` that `settings` ask for.

    Balanced class weights read the target of every case once.

    Raises:
        InputError: If the loss or the class weights do not fit the cohort's task.
    """
    task = cohort.task
    if settings.loss == "dice_ce" and task.kind != "segmentation":
        raise InputError(f"train: loss 'dice_ce' needs a segmentation task, got {task.kind}")
    if settings.class_weights == "none":
        return dice_ce if settings.loss == "dice_ce" else task.loss
    if task.kind != "classification":
        raise InputError(
            f"train: class_weights 'balanced' needs a classification task, got {task.kind}"
        )
    weights = balanced_weights(cohort)
    return lambda output, target: task.loss(output, target) * weights.to(output)[target]


def dice_ce(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice, each case's mean, `(b,)`.

    Dice is averaged over all classes, the first too; a class that is absent from a case costs
    what of it is predicted.

    Args:
        output: Logits, `(b, k, *s)`.
        target: Class indices, `(b, *s)`.

    Source: Milletari et al., 3DV 2016, section 3, arXiv:1606.04797. Deviations: plain sums,
    not squares, in the denominator, and 1 voxel added above and below the line.
    """
    entropy = F.cross_entropy(output, target, reduction="none").flatten(start_dim=1).mean(dim=1)
    share = output.softmax(dim=1).flatten(start_dim=2)
    truth = F.one_hot(target.flatten(start_dim=1), output.shape[1]).movedim(-1, 1).to(share)
    overlap = 2 * (share * truth).sum(dim=2) + SMOOTH
    dice = overlap / (share.sum(dim=2) + truth.sum(dim=2) + SMOOTH)
    return entropy + 1 - dice.mean(dim=1)


def balanced_weights(cohort: Cohort) -> Tensor:
    """Weight of each class, `(k,)`: cases over classes times cases of the class.

    The mean weight of the cases is 1 where no class is empty.
    """
    targets = torch.stack([case.target for case in cohort.cases]).long()
    count = targets.bincount(minlength=len(cohort.task.classes))
    return len(targets) / (len(count) * count.clamp(min=1))
