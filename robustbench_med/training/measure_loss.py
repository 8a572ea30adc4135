"""Errors of clinical measures, from probabilities, so that they can be trained for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.clinical import UNITS
from robustbench_med.components import suggest
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.soft_measures import MEASURES, soft_measures

COSTS_ONE: Mapping[str, float] = {"%": 10.0, "mL": 20.0, "g": 20.0}
"""How large an error of each unit costs as much as a cross-entropy of 1."""


@dataclass(frozen=True)
class MeasureCe:
    """Lower the absolute errors of clinical measures, and a small cross-entropy beside them.

    Whole patients: each measure is taken from soft volumes, the sums of the classes'
    probabilities over all slices of a phase, and held against that of the true labels. An error
    of 10 points, 20 mL or 20 g costs 1; measures count alike.

    Attributes:
        measures: Some of `MEASURES`.
        entropy: Weight of the cross-entropy. It keeps labels in their places, which volumes alone
            do not.
    """

    measures: tuple[str, ...] = ("lvef",)
    entropy: float = 1.0

    def __post_init__(self) -> None:
        asked: object = self.measures  # from a plan, anything
        if not isinstance(asked, list | tuple) or not asked:
            raise InputError(f"measure_ce: measures must be a list of names, got {asked!r}")
        object.__setattr__(self, "measures", tuple(asked))
        for name in self.measures:
            if name not in MEASURES:
                raise InputError(
                    f"measure_ce: no measure {name!r} of soft volumes; "
                    f"{suggest(str(name), MEASURES)}"
                )
        if not 0 <= self.entropy < math.inf:
            raise InputError(
                f"measure_ce: entropy must be finite, at least 0, got {self.entropy!r}"
            )

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        output = model(batch.image, batch.context).float()
        _check(output, batch)
        spacing = batch.context["spacing"]
        truth = F.one_hot(batch.target, output.shape[1]).movedim(-1, 1).to(output)
        found = soft_measures(output.softmax(dim=1), spacing)
        true = soft_measures(truth, spacing)
        errors = [
            (found[name] - true[name]).abs() / COSTS_ONE[UNITS[name]] for name in self.measures
        ]
        entropy = model.task.loss(output, batch.target)
        return torch.stack(errors).mean(dim=0) + self.entropy * entropy


def _check(output: Tensor, batch: Batch) -> None:
    if output.ndim != 6 or output.shape[1:3] != (4, 2):
        raise InputError(
            "train: loss 'measure_ce' needs whole patients, output (b, 4, 2, z, y, x), got "
            f"{tuple(output.shape)}; synthetic_cine has them in the tasks patient and chain"
        )
    if "spacing" not in batch.context or batch.context["spacing"].shape != (len(batch), 3):
        raise InputError(
            "train: loss 'measure_ce' needs `spacing` (b, 3) in mm in the cases' context"
        )
