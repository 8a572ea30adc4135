"""Thick slices of simulated patients at a low resolution, and the fine stack they came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    Frame,
    Made,
    Part,
    chosen_slices,
    complex_slice,
    distance_mm,
    kspace_slice,
    moments,
    spacing_of,
)
from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import ifft2c
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.rendering import Grid, Slab
from robustbench_med.physics.scanner import vendor

THROUGH, IN_PLANE = 5, 2
REFERENCE = 0.995


@dataclass(frozen=True)
class SuperResolutionView:
    """One case per moment: a stack `(1, z, h / 2, w / 2)`, and the fine one `(1, 5 z, h, w)`.

    A thick slice is the mean of the five thin ones it holds (no gap between thick slices); its
    in-plane resolution is halved by leaving out the outer half of k-space along both axes. The
    thick stack has the scanner's noise, the fine one, the truth, has none.

    Attributes:
        grid: Of the fine stack.
        slices: Neighbouring thick slices around the middle of the heart; None for all.
    """

    grid: Grid
    slices: int | None

    task: ClassVar[Task] = Task("super_resolution")
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.grid.height % IN_PLANE or self.grid.width % IN_PLANE:
            raise InputError(f"super_resolution: size must be even, got {self.grid}")

    def parts(self, patient: Patient) -> Sequence[Part]:  # noqa: ARG002
        """See `View`."""
        return [Part(name, {"phase": name}) for name, _ in moments(2)]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        name, contracted = moments(2)[number]
        numbers = _block(patient, self.slices)
        thick, thin = [], []
        for z in numbers:
            fine = self._fine(patient, contracted, z)
            thin.append(fine.abs())
            thick.append(self._coarse(patient, Frame(contracted, name, z), fine.mean(dim=0)))
        low, high = torch.stack(thick), torch.cat(thin)
        scale = high.flatten().kthvalue(int(REFERENCE * high.numel())).values.clamp(min=1e-12)
        spacing = spacing_of(patient, self.grid) / torch.tensor([THROUGH, 1, 1])
        low, high = ((stack / scale).clamp(0, 1)[None] for stack in (low, high))
        return Made(low, high, {"spacing": spacing})

    def _fine(self, patient: Patient, contracted: float, z: int) -> Tensor:
        """Complex images of the thin slices in thick slice `z`, `(5, h, w)`."""
        thin = distance_mm(vendor(patient.vendor)) / THROUGH
        slabs = [Slab((THROUGH * z + k + 0.5) * thin, thin) for k in range(THROUGH)]
        return torch.stack([complex_slice(patient, s, contracted, self.grid) for s in slabs])

    def _coarse(self, patient: Patient, frame: Frame, image: Tensor) -> Tensor:
        kspace = kspace_slice(patient, frame, image, 1, self.grid)[0]
        height, width = (length // IN_PLANE for length in kspace.shape)
        top, left = (length // 2 - length // IN_PLANE // 2 for length in kspace.shape)
        inner = kspace[top : top + height, left : left + width]
        centred = inner * _half_a_pixel(height)[:, None] * _half_a_pixel(width)
        # An orthonormal transform of fewer samples returns brighter pixels.
        return ifft2c(centred).abs() / IN_PLANE


def _half_a_pixel(length: int) -> Tensor:
    """Phase by which a coarse pixel lies in the middle of its fine ones, not on the first."""
    turns = (torch.arange(length) - length // 2) / (IN_PLANE * length)
    return torch.polar(torch.ones(length), torch.pi * (IN_PLANE - 1) * turns)


def _block(patient: Patient, count: int | None) -> list[int]:
    every = chosen_slices(patient, None)
    if count is None:
        return every
    start = max(0, (len(every) - count) // 2)
    return list(range(start, start + count))
