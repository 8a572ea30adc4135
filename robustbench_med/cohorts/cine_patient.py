"""Whole simulated patients: for classification, and for clinical measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    CLASSES,
    Frame,
    Made,
    Papillary,
    Part,
    chosen_slices,
    magnitude_slice,
    moments,
    spacing_of,
    true_labels,
)
from robustbench_med.physics.acdc import CLASSES as DIAGNOSES
from robustbench_med.physics.display import to_unit
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.rendering import Grid


@dataclass(frozen=True)
class ClassificationView:
    """One case per patient: slices at end-diastole, then at end-systole, `(2 slices, h, w)`.

    Attributes:
        grid: Of each slice.
        slices: How many at each moment, evenly from base to apex.
    """

    grid: Grid
    slices: int

    task: ClassVar[Task] = Task("classification", DIAGNOSES)
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    def parts(self, patient: Patient) -> Sequence[Part]:  # noqa: ARG002
        """See `View`."""
        return [Part("", {})]

    def make(self, patient: Patient, number: int) -> Made:  # noqa: ARG002
        """See `View`."""
        image, _ = _stack(patient, chosen_slices(patient, self.slices), self.grid)
        target = torch.tensor(DIAGNOSES.index(patient.diagnosis))
        flat = to_unit(image[None])[0].flatten(end_dim=1)
        return Made(flat, target, {"spacing": spacing_of(patient, self.grid)})


@dataclass(frozen=True)
class PatientView:
    """One case per patient: both moments, all slices, `(1, 2, z, h, w)`, labels `(2, z, h, w)`.

    Attributes:
        grid: Of each slice.
        papillary: What the papillary muscles count as.
    """

    grid: Grid
    papillary: Papillary

    task: ClassVar[Task] = Task("segmentation", CLASSES)
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    def parts(self, patient: Patient) -> Sequence[Part]:  # noqa: ARG002
        """See `View`."""
        return [Part("", {})]

    def make(self, patient: Patient, number: int) -> Made:  # noqa: ARG002
        """See `View`."""
        image, target = _stack(patient, chosen_slices(patient, None), self.grid, self.papillary)
        context = {"spacing": spacing_of(patient, self.grid), **body(patient)}
        # Each slice is scaled alone, as it is for a network of slices.
        scaled = torch.stack([to_unit(phase) for phase in image])
        return Made(scaled[None], target, context)


def body(patient: Patient) -> dict[str, Tensor]:
    """What a diagnosis needs to know of the patient: body surface area in m^2, and sex."""
    male = float(patient.person.sex == "M")
    return {"bsa": torch.tensor(patient.person.bsa), "male": torch.tensor(male)}


def _stack(
    patient: Patient, slices: Sequence[int], grid: Grid, papillary: Papillary = "cavity"
) -> tuple[Tensor, Tensor]:
    """Images and labels of both moments, `(2, z, h, w)` each."""
    images, targets = [], []
    for name, contracted in moments(2):
        for z in slices:
            frame = Frame(contracted, name, z)
            images.append(magnitude_slice(patient, frame, grid))
            targets.append(true_labels(patient, frame, grid, papillary))
    shape = (2, len(slices), grid.height, grid.width)
    return torch.stack(images).view(shape), torch.stack(targets).view(shape)
