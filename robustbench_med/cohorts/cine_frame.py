"""What every task on a simulated patient begins with: a slice, seen by its scanner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from robustbench_med.cases import Attribute, Bounds, Task
from robustbench_med.clinical import UNITS
from robustbench_med.physics.fourier import ifft2c
from robustbench_med.physics.heart import contracted_at
from robustbench_med.physics.imaging import Scan, coil_maps, measure_kspace
from robustbench_med.physics.measuring import measure_heart
from robustbench_med.physics.patient import Patient, seed_of
from robustbench_med.physics.rendering import Grid, Slab, labels, render
from robustbench_med.physics.scanner import Vendor, vendor

Papillary = Literal["cavity", "mass"]
CLASSES = ("background", "lv", "myo", "rv")
MEASURES = ("lvedv", "lvesv", "lvsv", "lvef", "lvm", "rvedv", "rvesv", "rvsv", "rvef")
SUFFIX = {"mL": "ml", "%": "percent", "g": "g"}


class Made(NamedTuple):
    """The tensors of a case."""

    image: Tensor
    target: Tensor
    context: Mapping[str, Tensor]


class Part(NamedTuple):
    """One of a patient's cases: what its name adds to the patient's, and its own attributes."""

    name: str
    attributes: Mapping[str, Attribute]


class View(Protocol):
    """What is made of a simulated patient: the cases of one task.

    Attributes:
        task: What is asked.
        bounds: Legal intensities.
    """

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def bounds(self) -> Bounds: ...  # noqa: D102

    def parts(self, patient: Patient) -> Sequence[Part]:
        """List the patient's cases."""
        ...

    def make(self, patient: Patient, number: int) -> Made:
        """Image the part of that number."""
        ...


@dataclass(frozen=True)
class Frame:
    """One slice at one moment.

    Attributes:
        contracted: 0 at end-diastole to 1 at end-systole.
        name: Of the moment.
        z: Number of the slice, from the base.
    """

    contracted: float
    name: str
    z: int

    @property
    def part(self) -> Part:
        """The frame as a case of its own."""
        return Part(f"{self.name}-z{self.z:02}", {"phase": self.name, "z": self.z})


def frames_of(patient: Patient, frames: int, slices: int | None) -> list[Frame]:
    """Every chosen slice at every moment, once."""
    chosen = sorted(set(chosen_slices(patient, slices)))
    return [Frame(contracted, name, z) for name, contracted in moments(frames) for z in chosen]


def moments(frames: int) -> list[tuple[str, float]]:
    """Name and contraction of each moment: ED and ES, or evenly over the cycle from ED."""
    if frames == 2:
        return [("ED", 0.0), ("ES", 1.0)]
    return [(f"t{index:02}", contracted_at(index / frames)) for index in range(frames)]


def slab(patient: Patient, z: int) -> Slab:
    """Where slice `z` of the patient's scanner lies."""
    protocol = vendor(patient.vendor)
    return Slab((z + 0.5) * distance_mm(protocol), protocol.slice_mm)


def distance_mm(protocol: Vendor) -> float:
    """From one slice's middle to the next one's."""
    return protocol.slice_mm + protocol.gap_mm


def slices_of(patient: Patient) -> int:
    """Slices whose middle lies within the left ventricle and its wall at end-diastole."""
    reach = patient.heart.length_mm + patient.heart.wall_mm
    return max(1, round(reach / distance_mm(vendor(patient.vendor))))


def chosen_slices(patient: Patient, count: int | None) -> list[int]:
    """All slices, or `count` of them, evenly from base to apex; some twice where it is more."""
    total = slices_of(patient)
    if count is None:
        return list(range(total))
    return [int((index + 0.5) / count * total) for index in range(count)]


def complex_slice(patient: Patient, where: Slab, contracted: float, grid: Grid) -> Tensor:
    """Complex image without noise, `(h, w)`."""
    shares, _ = rendered(patient, contracted, where, grid)
    return scan_of(patient).image(shares, where, grid)


def true_labels(patient: Patient, frame: Frame, grid: Grid, papillary: Papillary) -> Tensor:
    """Labels of one slice, `(h, w)`."""
    _, regions = rendered(patient, frame.contracted, slab(patient, frame.z), grid)
    return labels(regions, papillary_in_cavity=papillary == "cavity")


def kspace_slice(patient: Patient, frame: Frame, image: Tensor, coils: int, grid: Grid) -> Tensor:
    """Fully sampled k-space of every coil with the scanner's noise, `(coils, h, w)`."""
    maps = coil_maps(coils, grid) if coils > 1 else None
    generator = torch.Generator().manual_seed(
        seed_of(patient.seed, "noise", frame.name, frame.z, coils)
    )
    return measure_kspace(image, maps, scan_of(patient).noise, generator)


def magnitude(kspace: Tensor, protocol: Vendor) -> Tensor:
    """Magnitude image that the scanner shows, of one coil's k-space `(*, h, w)`."""
    height, width = kspace.shape[-2:]
    filtered = kspace * _window(protocol.acquired, protocol.window, height)[:, None]
    return ifft2c(filtered * _window(protocol.acquired, protocol.window, width)).abs()


def magnitude_slice(patient: Patient, frame: Frame, grid: Grid) -> Tensor:
    """Image as the scanner shows it, in its own unit, `(h, w)`."""
    image = complex_slice(patient, slab(patient, frame.z), frame.contracted, grid)
    kspace = kspace_slice(patient, frame, image, 1, grid)
    return magnitude(kspace, vendor(patient.vendor))[0]


def spacing_of(patient: Patient, grid: Grid) -> Tensor:
    """Distance of slices and extent of a pixel along y and x, `(3,)`, mm."""
    return torch.tensor([distance_mm(vendor(patient.vendor)), grid.pixel_mm, grid.pixel_mm])


def patient_attributes(patient: Patient, papillary: Papillary) -> Mapping[str, Attribute]:
    """Who the patient is, and the true measures of the heart."""
    person = patient.person
    true = measure_heart(patient.heart, papillary_in_cavity=papillary == "cavity")
    measures = {f"{name}_{SUFFIX[UNITS[name]]}": round(getattr(true, name), 3) for name in MEASURES}
    return {
        "sex": person.sex, "age_years": person.age_years, "age_band": _band(person.age_years),
        "height_cm": person.height_cm, "weight_kg": person.weight_kg,
        "bsa_m2": round(person.bsa, 3), "ancestry": person.ancestry,
        "vendor": patient.vendor, "field": f"{patient.field_t:g} T",
        "diagnosis": patient.diagnosis, "papillary": papillary, **measures,
    }  # fmt: skip


# An image and its labels are asked for one after the other, and a patient's slices in a row.
rendered = lru_cache(maxsize=2)(render)
scan_of = lru_cache(maxsize=16)(Scan)


def _band(age_years: int) -> str:
    start = 15 * (age_years // 15)
    return f"{start}-{start + 14}"


@lru_cache(maxsize=64)
def _window(acquired: float, rolled_off: float, length: int) -> Tensor:
    """Weight of each k-space line: a Tukey window over those acquired, 0 beyond, `(length,)`."""
    place = (torch.arange(length) - length // 2).abs() / (acquired * length / 2)
    weight = (place <= 1).float()
    if rolled_off > 0:
        edge = ((place - (1 - rolled_off)) / rolled_off).clamp(0, 1)
        weight = weight * (0.5 + 0.5 * torch.cos(torch.pi * edge))
    return weight
