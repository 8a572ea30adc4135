"""Undersampled k-space of a slice over the whole cardiac cycle, and the images it came from.

Like `kspace_cine`, this file is none of `cine_*.py`, and its own code is a field of its view.
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

from robustbench_med.cases import Attribute, Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    Frame,
    Made,
    Part,
    chosen_slices,
    complex_slice,
    kspace_slice,
    moments,
    scan_of,
    slab,
    spacing_of,
)
from robustbench_med.cohorts.cine_reconstruction import REFERENCE, UNBOUNDED, ReconstructionView
from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.imaging import coil_maps
from robustbench_med.physics.patient import Patient, seed_of
from robustbench_med.physics.sampling import cartesian_mask

READOUT = -1


@lru_cache(maxsize=1)
def own_code() -> str:
    """Hash of the code in this file; its comments and layout do not count."""
    tree = ast.parse(Path(__file__).read_bytes())
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


@dataclass(frozen=True)
class DynamicView:
    """One case per slice: k-space `(2 coils, t, h, w)`, true complex images `(2, t, h, w)`.

    Moments, masks and noise are those that the task `reconstruction` has; all frames have one
    scale. With `strip`, each case is a part of the image along the readout, see `readout_strip`.

    Attributes:
        measured: How each frame is measured, and how many there are.
        strip: Columns of a case; None for all.
        code: That makes the cases.
    """

    measured: ReconstructionView
    strip: int | None = None
    code: str = field(default_factory=own_code, repr=False)

    task: ClassVar[Task] = Task("reconstruction")
    bounds: ClassVar[Bounds] = UNBOUNDED

    def __post_init__(self) -> None:
        width = self.measured.grid.width
        if self.strip is not None and width % self.strip:
            raise InputError(
                f"synthetic_cine: strip: expected a divisor of the {width} columns, got "
                f"{self.strip}"
            )

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`."""
        return [_part(z, start) for z, start in self._places(patient)]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        z, start = self._places(patient)[number]
        whole = _series(self.measured, patient, z)
        if start is None or self.strip is None:
            return whole
        return readout_strip(whole, start, self.strip)

    def _places(self, patient: Patient) -> list[tuple[int, int | None]]:
        """Slice and first column of each case."""
        width, strip = self.measured.grid.width, self.strip
        starts = [None] if strip is None else list(range(0, width, strip))
        slices = sorted(set(chosen_slices(patient, self.measured.slices)))
        return [(z, start) for z in slices for start in starts]


def readout_strip(whole: Made, start: int, width: int) -> Made:
    """Cut columns out of a measured series: k-space, masks, maps and images of a narrower one.

    The readout, along the columns, is fully sampled. So k-space can be transformed back along it,
    cut, and transformed again, and what is left is exactly the measurement of the cut images:
    aliasing runs along the lines only. Independent noise stays independent, of the same size.

    Source: Schlemper et al., IEEE TMI 37 (2018), arXiv:1704.02422, whose authors train on strips.
    """
    cut = slice(start, start + width)
    across = torch.fft.ifft(_uncentred(to_complex(whole.image[None])), dim=READOUT, norm="ortho")
    columns = _uncentred(_centred(across)[..., cut])
    kspace = _centred(torch.fft.fft(columns, dim=READOUT, norm="ortho"))
    context = {
        name: value[..., cut].clone() if name in ("mask", "maps") else value
        for name, value in whole.context.items()
    }
    return Made(to_channels(kspace)[0], whole.target[..., cut].clone(), context)


def _centred(values: Tensor) -> Tensor:
    shifted: Tensor = torch.fft.fftshift(values, dim=READOUT)
    return shifted


def _uncentred(values: Tensor) -> Tensor:
    shifted: Tensor = torch.fft.ifftshift(values, dim=READOUT)
    return shifted


def _part(z: int, start: int | None) -> Part:
    place: dict[str, Attribute] = {"z": z}
    if start is None:
        return Part(f"z{z:02}", place)
    return Part(f"z{z:02}-x{start:03}", {**place, "x": start})


# Strips of a slice are asked for one after the other.
@lru_cache(maxsize=2)
def _series(view: ReconstructionView, patient: Patient, z: int) -> Made:
    """All frames of one slice."""
    grid, scan = view.grid, scan_of(patient)
    frames = [Frame(contracted, name, z) for name, contracted in moments(view.frames)]
    images = [complex_slice(patient, slab(patient, z), f.contracted, grid) for f in frames]
    truth = torch.stack(images)
    scale = truth.abs().flatten().quantile(REFERENCE).clamp(min=1e-12)
    seen = [
        kspace_slice(patient, frame, image, view.coils, grid)
        for frame, image in zip(frames, images, strict=True)
    ]
    mask = torch.stack([_lines(view, patient, frame) for frame in frames])[None]
    context = {
        "mask": mask.expand(1, len(frames), grid.height, grid.width).clone(),
        "noise": torch.tensor(scan.noise) / scale,
        "spacing": spacing_of(patient, grid),
    }
    if view.coils > 1:
        context["maps"] = to_channels(coil_maps(view.coils, grid)[None, :, None])[0]
    measured = mask * torch.stack(seen, dim=1) / scale
    return Made(
        to_channels(measured[None])[0], to_channels((truth / scale)[None, None])[0], context
    )


def _lines(view: ReconstructionView, patient: Patient, frame: Frame) -> Tensor:
    """Acquired lines of one frame, `(h, 1)`, 1 or 0."""
    stream = torch.Generator().manual_seed(seed_of(patient.seed, "mask", frame.name, frame.z))
    lines = cartesian_mask(view.grid.height, view.acceleration, view.centre_lines, stream)
    return lines.float()[:, None]
