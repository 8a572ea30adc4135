"""Virtual patients from one real brain: the MNI152 T1 average and its tissue maps.

nilearn ships the template under a permissive licence. It is the average of 152 people, so
it is one subject; patients are made from it by random smooth deformation, head size, tissue
contrast and scanner. Statistics over them hold for that simulation, not for a population.

Source: Fonov et al., NeuroImage 47 (2009) S102, the ICBM 152 nonlinear template.
"""

import csv
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from robustbench_med.errors import UnsupportedError

FILES = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
STEP = 3
GRID = (64, 80)
LEVELS = {"low": 17, "middle": 27, "high": 40}
COLUMNS = (
    "case_id", "patient_id", "image", "mask", "level", "split", "sex", "age_years", "site",
)  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """What is drawn for a virtual patient.

    Attributes:
        size: In-plane head size relative to the template's.
        bend: Displacement in voxels, `(2, y, x)`.
        contrast: Exponent on intensities.
        noise: Standard deviation, in [0, 1] intensities.
    """

    patient_id: str
    split: str
    sex: str
    age_years: int | None
    site: str
    size: float
    bend: np.ndarray
    contrast: float
    noise: float


def write_patients(folder: Path, *, patients: Mapping[str, int], seed: int) -> None:
    """Write `cases.csv` and PNG slices with masks; three slices a patient.

    Args:
        folder: Made if it is not there.
        patients: How many in each split.
        seed: Of the draws; a patient does not depend on the others.

    Raises:
        UnsupportedError: If nilearn is not installed.
    """
    volumes = read_template()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for split, count in patients.items():
            for number in range(count):
                table.writerows(_write_patient(folder, volumes, _draw(split, number, seed)))


def read_template() -> dict[str, np.ndarray]:
    """T1, grey and white matter of the template, in [0, 1], `(z, y, x)` at 3 mm."""
    found = importlib.util.find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise UnsupportedError("demo: needs the images that nilearn ships; pip install nilearn")
    root = Path(found.submodule_search_locations[0])
    return {name: _volume(root / FILES.format(name)) for name in ("t1", "gm", "wm")}


def _volume(path: Path) -> np.ndarray:
    stored = np.asarray(nib.load(path).dataobj, dtype=np.float32) / 255
    smooth = ndimage.uniform_filter(stored, STEP)[::STEP, ::STEP, ::STEP]
    return np.ascontiguousarray(smooth.transpose(2, 1, 0)[:, ::-1])


def _draw(split: str, number: int, seed: int) -> Patient:
    patient_id = f"virtual-{split}-{number:03}"
    key = hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
    sex, site = str(rng.choice(["F", "M"])), ("north", "south")[number % 2]
    bend = np.stack([ndimage.gaussian_filter(rng.standard_normal(GRID), 8) for _ in range(2)])
    return Patient(
        patient_id, split, sex,
        age_years=None if rng.random() < 0.08 else int(rng.integers(20, 90)),
        site=site,
        size=float(rng.normal(1.03 if sex == "M" else 0.97, 0.02)),
        bend=bend * (2.0 / bend.std()) * rng.uniform(0.3, 1.0),
        contrast=float(np.exp(rng.normal(0, 0.12))),
        noise=0.02 if site == "north" else 0.05,
    )  # fmt: skip


def _write_patient(
    folder: Path, volumes: Mapping[str, np.ndarray], patient: Patient
) -> Sequence[Sequence[object]]:
    rows = []
    for level, z in LEVELS.items():
        case_id = f"{patient.patient_id}-{level}"
        image, mask = image_slice(volumes, patient, z)
        names = [f"images/{case_id}.png", f"images/{case_id}-tissue.png"]
        for name, pixels in zip(names, (image, mask), strict=True):
            Image.fromarray(pixels).save(folder / name)
        age = "" if patient.age_years is None else patient.age_years
        who = [level, patient.split, patient.sex, age, patient.site]
        rows.append([case_id, patient.patient_id, *names, *who])
    return rows


def image_slice(
    volumes: Mapping[str, np.ndarray], patient: Patient, z: int
) -> tuple[np.ndarray, np.ndarray]:
    """One slice of a patient: 8-bit image and mask (0 other, 1 grey, 2 white), `(64, 80)`."""
    shape = volumes["t1"].shape[1:]
    centre = (np.array(shape) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in GRID), indexing="ij")).astype(float)
    offset = grid - (np.array(GRID)[:, None, None] - 1) / 2
    points = offset / patient.size + patient.bend + centre[:, None, None]
    t1, grey, white = (
        ndimage.map_coordinates(volumes[name][z], points, order=1, mode="constant")
        for name in ("t1", "gm", "wm")
    )
    rng = np.random.default_rng(int.from_bytes(f"{patient.patient_id}{z}".encode(), "little"))
    clean = np.clip(t1, 0, 1) ** patient.contrast
    real, imaginary = rng.normal(0, patient.noise, (2, *GRID))
    image = np.hypot(clean + real, imaginary)
    mask = np.where(np.maximum(grey, white) < 0.4, 0, np.where(grey >= white, 1, 2))
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask.astype(np.uint8)
