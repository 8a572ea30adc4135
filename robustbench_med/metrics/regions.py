"""The predicted and the true region of one class."""

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.settings import is_whole


def require_label(who: str, label: object) -> None:
    """Refuse a label that is not the index of a class.

    Raises:
        InputError: Naming the metric and what it got.
    """
    if not (is_whole(label) and label >= 0):
        raise InputError(f"{who}: label must be a class index, at least 0, got {label!r}")


def regions(who: str, output: Tensor, target: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Voxels that are predicted to be, and that are, of class `label`.

    Args:
        who: Name of the metric, for errors.
        output: `(b, k, *s)`, logits; a voxel belongs to the class of the highest.
        target: `(b, *s)`, class indices.
        label: Index of the class.

    Returns:
        Predicted and true region, each `(b, voxels)`, boolean.

    Raises:
        InputError: If the shapes are no segmentation's, or have no such class.
    """
    if output.ndim < 3 or target.shape != output.shape[:1] + output.shape[2:]:
        raise InputError(
            f"{who}: needs a segmentation, output (b, k, *s) and target (b, *s), "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    if label >= output.shape[1]:
        raise InputError(f"{who}: label {label}, but the output has {output.shape[1]} classes")
    predicted = output.argmax(dim=1) == label
    return predicted.flatten(start_dim=1), (target == label).flatten(start_dim=1)
