"""Hearts of the five ACDC classes: drawn, measured, and kept only if the rules are clear."""

import numpy as np

from robustbench_med.clinical import diagnose
from robustbench_med.errors import InputError
from robustbench_med.physics.heart import Heart
from robustbench_med.physics.measuring import measure_heart
from robustbench_med.physics.normal import Healthy, draw_healthy

CLASSES = ("NOR", "MINF", "DCM", "HCM", "RV")
# Distance to every threshold of the rules: borderline patients are left out, as ACDC did.
MARGIN = 0.05
TRIALS = 10_000
# Directions of the coronary arteries' territories from the middle of the septum, degrees,
# towards the front: chosen.
TERRITORIES = {"LAD": 45.0, "LCX": 165.0, "RCA": -75.0}


def draw_class(diagnosis: str, rng: np.random.Generator) -> Healthy:
    """Draw a person whose heart the ACDC rules give `diagnosis`, with a margin.

    Raises:
        InputError: If there is no such class.

    Source: Bernard et al., IEEE TMI 37 (2018), for the classes. The ranges that hearts are drawn
    from are chosen.
    """
    if diagnosis not in CLASSES:
        raise InputError(f"class: expected one of {', '.join(CLASSES)}, got {diagnosis!r}")
    for _ in range(TRIALS):
        healthy = draw_healthy(rng)
        try:
            heart = _proposed(diagnosis, healthy, rng)
            measures = measure_heart(heart)
        except InputError:  # no geometry has these volumes
            continue
        person = healthy.person
        found = diagnose(measures, bsa=person.bsa, male=person.sex == "M", margin=MARGIN)
        if found == diagnosis:
            return Healthy(person, heart)
    raise InputError(f"class {diagnosis}: no heart in {TRIALS} draws fulfils the rules")


def _proposed(diagnosis: str, healthy: Healthy, rng: np.random.Generator) -> Heart:
    heart, bsa = healthy.heart, healthy.person.bsa

    def volumes(low: float, high: float, least: float, most: float) -> tuple[float, float]:
        edv = bsa * float(rng.uniform(low, high))
        return edv, edv * (1 - float(rng.uniform(least, most)) / 100)

    left, right = (heart.lvedv, heart.lvesv), (heart.rvedv, heart.rvesv)
    wall_mm, unusual = heart.wall_mm, {}
    match diagnosis:
        case "DCM":
            left, right = volumes(110, 165, 15, 36), volumes(65, 105, 30, 58)
            wall_mm = float(rng.uniform(5.5, 8.5))
        case "HCM":
            left, wall_mm = volumes(50, 85, 59, 75), float(rng.uniform(8, 11))
            unusual = {"septal_mm": float(rng.uniform(8, 15))}
        case "MINF":
            left, wall_mm = volumes(75, 125, 20, 37), float(rng.uniform(6.5, 9))
            unusual = {
                "thinning_mm": float(rng.uniform(1, 3)),
                "akinesia": float(rng.uniform(0.8, 1.0)),
                "territory_rad": _territory(rng),
            }
        case "RV":
            right = volumes(105, 165, 20, 50)
    return Heart(*left, *right, wall_mm=wall_mm, stretch=heart.stretch, **unusual)


def _territory(rng: np.random.Generator) -> float:
    centre = TERRITORIES[str(rng.choice(list(TERRITORIES)))]
    return float(np.deg2rad(centre + rng.uniform(-15, 15)))
