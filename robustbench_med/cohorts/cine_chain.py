"""Whole simulated patients as the scanner measures them: k-space of all slices, two moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import CLASSES, Made, Papillary, Part
from robustbench_med.cohorts.cine_patient import PatientView
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

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        whole = PatientView(self.measured.grid, self.papillary).make(patient, number)
        count = len(self.measured.parts(patient))
        slices = [self.measured.make(patient, part) for part in range(count)]
        context = {
            "mask": _joined([made.context["mask"] for made in slices]),
            "noise": torch.stack([made.context["noise"] for made in slices]).mean(),
            **{name: whole.context[name] for name in ("spacing", "bsa", "male")},
        }
        if "maps" in slices[0].context:
            context["maps"] = _joined([made.context["maps"] for made in slices])
        return Made(_joined([made.image for made in slices]), whole.target, context)


def _joined(slices: Sequence[Tensor]) -> Tensor:
    """Slices `(c, h, w)` of two moments, one after the other, as `(c, 2, z, h, w)`."""
    stacked = torch.stack(list(slices), dim=1)
    channels, count, height, width = stacked.shape
    return stacked.view(channels, 2, count // 2, height, width)
