"""Cross-entropy plus soft Dice, for segmentation."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel

SMOOTH = 1.0


@dataclass(frozen=True)
class DiceCe:
    """Lower cross-entropy plus one minus soft Dice.

    Attributes:
        smooth: Voxels added above and below the line of Dice.

    Source: Milletari et al., 3DV 2016, section 3, arXiv:1606.04797. Deviations: plain sums,
    not squares, in the denominator, `smooth`, and the cross-entropy beside it.
    """

    smooth: float = SMOOTH

    def __post_init__(self) -> None:
        if not self.smooth > 0:
            raise InputError(f"dice_ce: smooth must be above 0, got {self.smooth!r}")

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        if model.task.kind != "segmentation":
            raise InputError(
                f"train: loss 'dice_ce' needs a segmentation task, got {model.task.kind}"
            )
        output = model(batch.image, batch.context).float()
        return dice_ce(output, batch.target, smooth=self.smooth)


def dice_ce(output: Tensor, target: Tensor, *, smooth: float = SMOOTH) -> Tensor:
    """Cross-entropy plus one minus soft Dice, each case's mean, `(b,)`.

    Dice is averaged over all classes, the first too; a class that is absent from a case costs
    what of it is predicted.

    Args:
        output: Logits, `(b, k, *s)`.
        target: Class indices, `(b, *s)`.
        smooth: See `DiceCe`.
    """
    entropy = F.cross_entropy(output, target, reduction="none").flatten(start_dim=1).mean(dim=1)
    share = output.softmax(dim=1).flatten(start_dim=2)
    truth = F.one_hot(target.flatten(start_dim=1), output.shape[1]).movedim(-1, 1).to(share)
    overlap = 2 * (share * truth).sum(dim=2) + smooth
    dice = overlap / (share.sum(dim=2) + truth.sum(dim=2) + smooth)
    return entropy + 1 - dice.mean(dim=1)
