"""Healthy hearts: the reference ranges of the UK Biobank, as a population to draw from."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from robustbench_med.errors import InputError
from robustbench_med.physics.heart import Heart, wall_for_mass
from robustbench_med.physics.patient import ANCESTRIES, Person

NAMES = ("lvedv", "lvef", "lvm", "rvedv", "rvef", "height", "weight", "age")
# Mean and standard deviation. Volumes and mass: Petersen et al., JCMR 19:18 (2017), 368 men and
# 432 women of 45 to 74 years; papillary muscles are in the cavity. Heights and weights: chosen,
# as are all correlations; age is uniform.
RANGES = {
    "M": {"lvedv": (166, 32), "lvef": (58, 5), "lvm": (103, 21), "rvedv": (182, 36),
          "rvef": (54, 6), "height": (176, 6.6), "weight": (83, 12)},
    "F": {"lvedv": (124, 21), "lvef": (61, 5), "lvm": (70, 13), "rvedv": (130, 24),
          "rvef": (58, 6), "height": (163, 6.2), "weight": (69, 11)},
}  # fmt: skip
AGES = (45, 75)
CORRELATED = {
    ("lvedv", "lvm"): 0.55, ("lvedv", "rvedv"): 0.85, ("lvm", "rvedv"): 0.5,
    ("lvef", "rvef"): 0.45, ("lvedv", "height"): 0.45, ("rvedv", "height"): 0.45,
    ("lvm", "height"): 0.35, ("lvedv", "weight"): 0.35, ("rvedv", "weight"): 0.35,
    ("lvm", "weight"): 0.45, ("height", "weight"): 0.45, ("lvedv", "age"): -0.2,
    ("rvedv", "age"): -0.2, ("height", "age"): -0.1,
}  # fmt: skip
FARTHEST = 3.0  # standard deviations


class Healthy(NamedTuple):
    """A person and their heart."""

    person: Person
    heart: Heart


def draw_healthy(rng: np.random.Generator, sex: str | None = None) -> Healthy:
    """Draw a healthy person; `sex` is drawn too unless it is given.

    Draws that lie over three standard deviations out, or that no geometry fulfils, are repeated.
    """
    sex = sex or str(rng.choice(["F", "M"]))
    ancestry = str(rng.choice(ANCESTRIES))
    while True:
        normal = _ROOT @ rng.standard_normal(len(NAMES))
        if np.abs(normal).max() > FARTHEST:
            continue
        value = {name: float(mean + sd * normal[NAMES.index(name)])
                 for name, (mean, sd) in RANGES[sex].items()}  # fmt: skip
        age = AGES[0] + int((AGES[1] - AGES[0]) * ndtr(normal[NAMES.index("age")]))
        person = Person(sex, age, round(value["height"], 1), round(value["weight"], 1), ancestry)
        try:
            return Healthy(person, _heart(value, stretch=float(rng.normal(1, 0.04))))
        except InputError:
            continue


def _heart(value: dict[str, float], stretch: float) -> Heart:
    volumes = (
        value["lvedv"],
        value["lvedv"] * (1 - value["lvef"] / 100),
        value["rvedv"],
        value["rvedv"] * (1 - value["rvef"] / 100),
    )
    some = Heart(*volumes, wall_mm=6.0, stretch=stretch)
    return Heart(*volumes, wall_mm=wall_for_mass(some, value["lvm"]), stretch=stretch)


def _root() -> np.ndarray:
    matrix = np.eye(len(NAMES))
    for (one, other), value in CORRELATED.items():
        i, j = NAMES.index(one), NAMES.index(other)
        matrix[i, j] = matrix[j, i] = value
    return np.linalg.cholesky(matrix)


_ROOT = _root()
