"""Whether the model is right."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Correct:
    """Whether the answer is the true one: 1 or 0 per case, or the share of correct voxels.

    The shapes say which: a classification has one answer and a segmentation one per voxel, both
    the class of the highest output; a multilabel case counts as right if all its flags are,
    with a flag raised where its output, a logit, is above 0. The mean over cases is accuracy.
    """

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case.

        Args:
            output: `(b, k)` or `(b, k, *s)`, logits.
            target: `(b,)` or `(b, *s)`, class indices; or `(b, k)`, flags.

        Returns:
            `(b,)`, in [0, 1].

        Raises:
            InputError: If the shapes fit none of these.
        """
        if output.ndim == 2 and target.shape == output.shape:
            return ((output > 0) == (target > 0)).all(dim=1).float()
        if output.ndim < 2 or target.shape != output.shape[:1] + output.shape[2:]:
            raise InputError(
                f"correct: output {tuple(output.shape)} and target {tuple(target.shape)} are no "
                "classification, segmentation or multilabel task"
            )
        right = (output.argmax(dim=1) == target).double()
        return right.view(len(right), -1).mean(dim=1)
