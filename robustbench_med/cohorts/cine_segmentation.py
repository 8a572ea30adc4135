"""Slices of simulated patients with their true labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    CLASSES,
    Made,
    Papillary,
    Part,
    frames_of,
    magnitude_slice,
    spacing_of,
    true_labels,
)
from robustbench_med.physics.display import to_unit
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.rendering import Grid


@dataclass(frozen=True)
class SegmentationView:
    """One case per slice and moment: image `(1, h, w)` in [0, 1], labels `(h, w)`.

    Attributes:
        grid: Of image and labels.
        papillary: What the papillary muscles count as.
        slices: How many, evenly from base to apex; None for all.
        frames: 2 for end-diastole and end-systole, more for moments over the cycle.
    """

    grid: Grid
    papillary: Papillary
    slices: int | None
    frames: int

    task: ClassVar[Task] = Task("segmentation", CLASSES)
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`."""
        return [frame.part for frame in frames_of(patient, self.frames, self.slices)]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        frame = frames_of(patient, self.frames, self.slices)[number]
        image = to_unit(magnitude_slice(patient, frame, self.grid)[None])
        target = true_labels(patient, frame, self.grid, self.papillary)
        return Made(image, target, {"spacing": spacing_of(patient, self.grid)})
