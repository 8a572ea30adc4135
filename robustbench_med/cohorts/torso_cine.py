"""Slices of the whole torso with the tissue that fills each pixel.

As `kspace_cine.py`, this file is none of the `cine_*.py` that every case's digest covers, so that
the tasks before it keep theirs; its own code is a field of its view instead.
"""

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    Frame,
    Made,
    Part,
    chosen_slices,
    magnitude_slice,
    rendered,
    slab,
    spacing_of,
)
from robustbench_med.errors import InputError
from robustbench_med.physics.display import to_unit
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.rendering import TISSUES, Grid

TISSUE_OF = {
    "fat": "fat", "muscle": "muscle", "lung": "lung", "liver": "liver", "spleen": "spleen",
    "spine": "bone", "myocardium": "myocardium", "blood": "blood",
}  # fmt: skip
CLASSES = ("air", *TISSUE_OF)
TORSO_NEEDS_MM = 440.0


@lru_cache(maxsize=1)
def own_code() -> str:
    """Hash of the code in this file; its comments and layout do not count."""
    tree = ast.parse(Path(__file__).read_bytes())
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


@dataclass(frozen=True)
class TorsoView:
    """One case per slice at end-diastole: image `(1, h, w)` in [0, 1], labels `(h, w)`.

    Attributes:
        grid: Of image and labels; it holds the whole torso.
        slices: How many, evenly from the heart's base to its apex; None for all.
        code: That makes the cases.

    Raises:
        InputError: If the image is smaller than the torso.
    """

    grid: Grid
    slices: int | None
    code: str = field(default_factory=own_code, repr=False)

    task: ClassVar[Task] = Task("segmentation", CLASSES)
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    def __post_init__(self) -> None:
        height, width = self.grid.height, self.grid.width
        extent = min(height, width) * self.grid.pixel_mm
        if extent < TORSO_NEEDS_MM:
            raise InputError(
                f"synthetic_cine: torso: image of {height} x {width} pixels of "
                f"{self.grid.pixel_mm:g} mm: {extent:g} mm is smaller than the torso, which needs "
                f"{TORSO_NEEDS_MM:g} mm; take size = 64 and pixel_mm = 7, or more"
            )

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`."""
        return [frame.part for frame in self._frames(patient)]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        frame = self._frames(patient)[number]
        image = to_unit(magnitude_slice(patient, frame, self.grid)[None])
        shares, _ = rendered(patient, frame.contracted, slab(patient, frame.z), self.grid)
        return Made(image, tissue_labels(shares), {"spacing": spacing_of(patient, self.grid)})

    def _frames(self, patient: Patient) -> list[Frame]:
        # Nothing but the heart moves, so end-systole would show every other organ twice.
        return [Frame(0.0, "ED", z) for z in sorted(set(chosen_slices(patient, self.slices)))]


def tissue_labels(shares: Tensor) -> Tensor:
    """Label of the tissue with the largest share in each pixel, the first of equals.

    Args:
        shares: Of each of the simulator's tissues, `(tissue, h, w)`; the rest is air.

    Returns:
        Indices into `CLASSES`, `(h, w)`. Papillary muscles are myocardium, the aorta is blood,
        and the spine's bone is `spine`.
    """
    ordered = shares[[TISSUES.index(tissue) for tissue in TISSUE_OF.values()]]
    return torch.cat([1 - shares.sum(dim=0, keepdim=True), ordered]).max(dim=0).indices
