"""Whole simulated patients as the scanner measures them: k-space of all slices, two moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    CLASSES,
    Made,
    Papillary,
    Part,
    frames_of,
    true_labels,
)
from robustbench_med.cohorts.cine_patient import body
from robustbench_med.cohorts.cine_reconstruction import UNBOUNDED, ReconstructionView
from robustbench_med.physics.patient import Patient


@dataclass(frozen=True)
class ChainView:
    """One case per patient: k-space `(2 coils, 2, z, h, w)`, labels `(2, z, h, w)`.

    The slices and their masks are those that the task `reconstruction` has, and the labels
    those of the task `patient`.

    Attributes:
        measured: How each slice is measured.
        papillary: What the papillary muscles count as.
    """

    measured: ReconstructionView
    papillary: Papillary

    task: ClassVar[Task] = Task("segmentation", CLASSES)
    bounds: ClassVar[Bounds] = UNBOUNDED

    def parts(self, patient: Patient) -> Sequence[Part]:  # noqa: ARG002
        """See `View`."""
        return [Part("", {})]

    def make(self, patient: Patient, number: int) -> Made:  # noqa: ARG002
        """See `View`."""
        made, targets = [], []
        for part, frame in enumerate(frames_of(patient, 2, None)):
            made.append(self.measured.make(patient, part))
            targets.append(true_labels(patient, frame, self.measured.grid, self.papillary))
        context = {
            "mask": _joined([part.context["mask"] for part in made]),
            "noise": torch.stack([part.context["noise"] for part in made]).mean(),
            "spacing": made[0].context["spacing"],
            **body(patient),
        }
        if "maps" in made[0].context:
            context["maps"] = _joined([part.context["maps"] for part in made])
        target = _joined([target[None] for target in targets])[0]
        return Made(_joined([part.image for part in made]), target, context)


def _joined(slices: Sequence[Tensor]) -> Tensor:
    """Slices `(c, h, w)` of two moments, one after the other, as `(c, 2, z, h, w)`."""
    stacked = torch.stack(list(slices), dim=1)
    channels, count, height, width = stacked.shape
    return stacked.view(channels, 2, count // 2, height, width)
