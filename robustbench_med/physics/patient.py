"""Who is imaged: a person, their heart and torso, and the scanner they lay in."""

import hashlib
from dataclasses import dataclass

import numpy as np

from robustbench_med import clinical
from robustbench_med.physics.heart import Heart, shape_at
from robustbench_med.physics.torso import WALL_TO_HEART_MM, Torso

ANCESTRIES = ("group 1", "group 2", "group 3")
EXTRA_FAT_MM = {"group 1": 0.0, "group 2": 4.0, "group 3": 8.0}


@dataclass(frozen=True)
class Person:
    """Who the patient is.

    Attributes:
        sex: "F" or "M".
        age_years: At the scan.
        height_cm: Standing.
        weight_kg: At the scan.
        ancestry: One of `ANCESTRIES`; it decides on subcutaneous fat and on nothing else.
    """

    sex: str
    age_years: int
    height_cm: float
    weight_kg: float
    ancestry: str

    @property
    def bsa(self) -> float:
        """Body surface area, m^2."""
        return clinical.bsa(self.height_cm, self.weight_kg)

    @property
    def bmi(self) -> float:
        """Body mass index, kg/m^2."""
        return self.weight_kg / (self.height_cm / 100) ** 2


@dataclass(frozen=True)
class Patient:
    """What decides all images of a patient.

    Attributes:
        patient_id: Unique in its population, split and seed.
        person: See `Person`.
        diagnosis: "normal", or the class of the ACDC rules that the heart fulfils.
        heart: See `Heart`.
        torso: See `Torso`.
        vendor: Name of the scanner's profile.
        field_t: Field strength.
        rotation_rad: By which the septum's middle is turned from the image's left.
        offset_mm: Of the heart's axis from the image's centre, y and x.
        seed: Of the textures and of the fields.
    """

    patient_id: str
    person: Person
    diagnosis: str
    heart: Heart
    torso: Torso
    vendor: str
    field_t: float
    rotation_rad: float
    offset_mm: tuple[float, float]
    seed: int


def stream(*names: object) -> np.random.Generator:
    """Random numbers that depend on `names` alone, not on what was drawn before."""
    return np.random.default_rng(seed_of(*names))


def seed_of(*names: object) -> int:
    """Hash of `names`, from 0 to 2^63 - 1."""
    text = "\x1f".join(map(str, names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def draw_torso(person: Person, heart: Heart, rng: np.random.Generator) -> Torso:
    """Draw a torso that fits the person's size and holds the heart."""
    size = np.sqrt(person.bsa / 1.9)
    fat = 7.0 + 0.6 * (person.bmi - 25) + EXTRA_FAT_MM[person.ancestry] + rng.normal(0, 1.0)
    reach = heart.radius_mm + float(heart.wall.max())
    tilt = float(rng.normal(np.deg2rad(30), np.deg2rad(10)))
    right = float(shape_at(heart, 0.0).right.max()) * np.sin(max(tilt, 0.0))
    return Torso(
        width_mm=float(150 * size * rng.normal(1, 0.04)),
        depth_mm=float(100 * size * rng.normal(1, 0.04)),
        fat_mm=float(max(fat, 3.0)),
        heart_mm=float(reach + right + WALL_TO_HEART_MM + rng.uniform(0, 8)),
        liver_mm=float(reach + rng.uniform(6, 16)),
        fat_pad_mm=float(rng.uniform(2, 5)),
        tilt_rad=tilt,
    )
