"""Undersampled k-space of simulated patients, and the image it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    Made,
    Part,
    complex_slice,
    frames_of,
    kspace_slice,
    scan_of,
    slab,
    spacing_of,
)
from robustbench_med.physics.fourier import to_channels
from robustbench_med.physics.imaging import coil_maps
from robustbench_med.physics.patient import Patient, seed_of
from robustbench_med.physics.rendering import Grid
from robustbench_med.physics.sampling import cartesian_mask

UNBOUNDED = (-float("inf"), float("inf"))
REFERENCE = 0.99  # quantile of the true magnitudes that becomes 1


@dataclass(frozen=True)
class ReconstructionView:
    """One case per slice and moment: k-space `(2 coils, h, w)`, true complex image `(2, h, w)`.

    Attributes:
        grid: Of image and k-space.
        slices: How many, evenly from base to apex; None for all.
        frames: 2 for end-diastole and end-systole, more for moments over the cycle.
        coils: 1 has a sensitivity of 1 everywhere.
        acceleration: Lines of k-space over lines acquired.
        centre_lines: Always acquired.
    """

    grid: Grid
    slices: int | None
    frames: int
    coils: int
    acceleration: float
    centre_lines: int

    task: ClassVar[Task] = Task("reconstruction")
    bounds: ClassVar[Bounds] = UNBOUNDED

    def __post_init__(self) -> None:
        self._mask(0)  # refuses what leaves no line, before any case is made

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`."""
        return [frame.part for frame in frames_of(patient, self.frames, self.slices)]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        frame = frames_of(patient, self.frames, self.slices)[number]
        image = complex_slice(patient, slab(patient, frame.z), frame.contracted, self.grid)
        scale = image.abs().flatten().quantile(REFERENCE).clamp(min=1e-12)
        kspace = kspace_slice(patient, frame, image, self.coils, self.grid) / scale
        mask = self._mask(seed_of(patient.seed, "mask", frame.name, frame.z))
        context = {
            "mask": mask.expand(1, self.grid.height, self.grid.width).clone(),
            "noise": torch.tensor(scan_of(patient).noise) / scale,
            "spacing": spacing_of(patient, self.grid),
        }
        if self.coils > 1:
            context["maps"] = to_channels(coil_maps(self.coils, self.grid)[None])[0]
        measured = to_channels((kspace * mask)[None])[0]
        return Made(measured, to_channels((image / scale)[None, None])[0], context)

    def _mask(self, seed: int) -> Tensor:
        """Acquired lines, `(h, 1)`, 1 or 0."""
        generator = torch.Generator().manual_seed(seed)
        lines = cartesian_mask(self.grid.height, self.acceleration, self.centre_lines, generator)
        return lines.float()[:, None]
