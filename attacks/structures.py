"""What an attack on one structure of a segmentation raises."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.objective import class_index
from robustbench_med.attacks.pixelwise import require_segmentation
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError

Label = str | int
Unit = Literal["voxels", "ml"]
SMOOTH = 1.0


@dataclass(frozen=True)
class SoftDice:
    """One minus soft Dice, of one class or the mean over all.

    A class that is absent from a case costs what of it is predicted.

    Attributes:
        label: Name or index of the class; None takes the mean over all, the first too.

    Source: Milletari et al., 3DV 2016, section 3, arXiv:1606.04797. Deviations: plain sums, not
    squares, in the denominator, and one voxel added above and below the line.
    """

    label: Label | None = None

    def __post_init__(self) -> None:
        if self.label is not None:
            require_label("soft_dice", self.label)

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("soft_dice", output, batch, task)
        share = output.softmax(dim=1).flatten(start_dim=2)
        truth = F.one_hot(batch.target.flatten(start_dim=1), output.shape[1]).movedim(-1, 1)
        overlap = 2 * (share * truth).sum(dim=2) + SMOOTH
        lost = 1 - overlap / (share.sum(dim=2) + truth.sum(dim=2) + SMOOTH)
        return lost.mean(dim=1) if self.label is None else lost[:, class_index(self.label, task)]


@dataclass(frozen=True)
class Erase:
    """How far a structure is from being missed: the mean over its true voxels of their margin.

    A voxel's margin is the highest other logit minus the structure's, and 0 once the voxel is
    lost, so that no effort is spent on it any more: 0 says that the structure is gone. Margins
    keep their slope where probabilities are saturated. 0 where the truth has no such structure:
    there is nothing to erase.

    Attributes:
        label: Name or index of the structure's class.
    """

    label: Label

    def __post_init__(self) -> None:
        require_label("erase", self.label)

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("erase", output, batch, task)
        label = class_index(self.label, task)
        return _mean_over(batch.target == label, (-_lead(output, label)).clamp(max=0))


@dataclass(frozen=True)
class Hallucinate:
    """How far a structure is from being seen everywhere: `erase` the other way round.

    The mean, over the voxels outside the true structure, of its logit minus the highest other
    one, and 0 where the voxel is given to it already.

    Attributes:
        label: Name or index of the structure's class.
    """

    label: Label

    def __post_init__(self) -> None:
        require_label("hallucinate", self.label)

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        require_segmentation("hallucinate", output, batch, task)
        label = class_index(self.label, task)
        return _mean_over(batch.target != label, _lead(output, label).clamp(max=0))


@dataclass(frozen=True)
class Volume:
    """Signed error of a structure's volume, from probabilities.

    `sign` times the sum of the class's probabilities minus the true voxels, in mL or voxels;
    with probabilities of 0 and 1 it is the metric `volume_error`.

    Attributes:
        label: Name or index of the structure's class.
        sign: 1 to make the model see too much, -1 too little.
        unit: "voxels", or "ml", which needs `context["spacing"]`, `(b, 3)`, in mm.
    """

    label: Label
    sign: int = 1
    unit: Unit = "voxels"

    def __post_init__(self) -> None:
        require_label("volume", self.label)
        require_sign("volume", self.sign)
        if self.unit not in get_args(Unit):
            raise InputError(f"volume: unit must be voxels or ml, got {self.unit!r}")

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If ml is asked for and the context has no spacing of three axes.
        """
        require_segmentation("volume", output, batch, task)
        label = class_index(self.label, task)
        seen = output.softmax(dim=1)[:, label] - (batch.target == label).to(output)
        error = self.sign * seen.flatten(start_dim=1).sum(dim=1)
        if self.unit == "voxels":
            return error
        return error * (spacing_of("volume", batch).prod(dim=1) / 1000).to(error)


def require_label(who: str, label: object) -> None:
    """Refuse a label that is neither a class's name nor its index.

    Raises:
        InputError: Naming the objective `who`.
    """
    index = isinstance(label, int) and not isinstance(label, bool) and label >= 0
    if not (index or (isinstance(label, str) and label)):
        raise InputError(f"{who}: label must be a class's name or index, got {label!r}")


def require_sign(who: str, sign: object) -> None:
    """Refuse a direction that is neither 1 nor -1.

    Raises:
        InputError: Naming the objective `who`.
    """
    if isinstance(sign, bool) or sign not in (1, -1):
        raise InputError(f"{who}: sign must be 1 (too much) or -1 (too little), got {sign!r}")


def spacing_of(who: str, batch: Batch) -> Tensor:
    """Extent of each case's voxels along z, y and x, `(b, 3)`, in mm.

    Raises:
        InputError: If the context has none, or not of three axes.
    """
    spacing = batch.context.get("spacing")
    if spacing is None or spacing.shape != (len(batch), 3):
        got = "none" if spacing is None else tuple(spacing.shape)
        raise InputError(f"{who}: needs spacing (b, 3) in mm in the cases' context, got {got}")
    return spacing


def _lead(output: Tensor, label: int) -> Tensor:
    """Logit of the class minus the highest other one, `(b, *s)`."""
    others = torch.cat([output[:, :label], output[:, label + 1 :]], dim=1)
    return output[:, label] - others.amax(dim=1)


def _mean_over(region: Tensor, values: Tensor) -> Tensor:
    """Mean of each case's values inside its region, `(b,)`; 0 where it is empty."""
    kept = values.where(region, 0).flatten(start_dim=1).sum(dim=1)
    return kept / region.flatten(start_dim=1).sum(dim=1).clamp(min=1)
