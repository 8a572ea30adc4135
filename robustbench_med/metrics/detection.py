"""How probable the model takes the truth about one class to be."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.regions import require_label
from robustbench_med.metrics.settings import is_number
from robustbench_med.probes import Better

SMALLEST = 2.0**-53


@dataclass(frozen=True)
class Detection:
    """Probability given to the truth about a class: p where it is present, 1 - p where not.

    From these values statistics derive the area under the ROC curve, the sensitivity and the
    specificity at the threshold, and the calibration. p is the softmax probability of the class
    among all, or for a multilabel task the sigmoid of its output.

    A double cannot hold a probability between 1 - 2^-53 and 1. Values are kept in
    [2^-53, 1 - 2^-53], at both ends alike: every value has finite log-odds, 1 - value is exact,
    and outputs beyond 36.7 in log-odds are ties.

    Attributes:
        label: Index of the class, or of the flag.
        threshold: Probability from which on the class counts as found; None where none is fixed.
    """

    label: int = 1
    threshold: float | None = None

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)
    reads: ClassVar[str] = "detection"

    def __post_init__(self) -> None:
        require_label("detection", self.label)
        threshold = self.threshold
        if threshold is not None and not (is_number(threshold) and 0 < threshold < 1):
            raise InputError(
                f"detection: threshold must be a probability above 0 and below 1, got {threshold!r}"
            )

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Score each case.

        Args:
            output: `(b, k)`, logits.
            target: `(b,)`, class indices; or `(b, k)`, flags, NaN where one is not known.

        Returns:
            `value`, the probability given to the truth, and `true`, 1 where the class is present
            and 0 where not; both `(b,)`, float64, and NaN where that is not known.

        Raises:
            InputError: If the shapes are no classification's or multilabel task's, there is no
                such class, or a flag is neither 0 nor 1.
        """
        _require_classes(output, target, self.label)
        if target.ndim == 1:
            present, known = target == self.label, ~target.isnan()
            log_odds = _against_the_rest(output.double(), self.label)
        else:
            flags = target[:, self.label]
            present, known = flags == 1, ~flags.isnan()
            log_odds = output[:, self.label].double()
        for_truth = torch.sigmoid(torch.where(present, log_odds, -log_odds))
        value = for_truth.clamp(SMALLEST, 1 - SMALLEST)
        return {"value": value.where(known, nan), "true": present.double().where(known, nan)}


def _against_the_rest(output: Tensor, label: int) -> Tensor:
    """Log-odds of the softmax probability; free of the cancellation in 1 - p."""
    rest = torch.cat([output[:, :label], output[:, label + 1 :]], dim=1)
    return output[:, label] - rest.logsumexp(dim=1)


def _require_classes(output: Tensor, target: Tensor, label: int) -> None:
    flags = target.shape == output.shape
    if output.ndim != 2 or not (flags or target.shape == output.shape[:1]):
        raise InputError(
            "detection: needs a classification, output (b, k) and target (b,), or a multilabel "
            f"task, both (b, k), got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    if label >= output.shape[1]:
        raise InputError(f"detection: label {label}, but the output has {output.shape[1]} classes")
    if not flags and output.shape[1] < 2:
        raise InputError("detection: a classification needs two classes, got 1")
    if flags and not ((target == 0) | (target == 1) | target.isnan()).all():
        raise InputError("detection: flags must be 0 or 1, or NaN where not known")
