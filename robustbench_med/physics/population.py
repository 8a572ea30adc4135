"""Patients by number: drawn when asked for, each from random numbers of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from robustbench_med.errors import InputError, raise_together
from robustbench_med.physics.acdc import CLASSES, draw_class
from robustbench_med.physics.normal import draw_healthy
from robustbench_med.physics.patient import Patient, draw_torso, seed_of, stream
from robustbench_med.physics.scanner import FIELDS, VENDORS, vendor

Kind = Literal["normal", "acdc"]
Split = Literal["train", "validation", "test"]
SHARE_OF_FIELD = {0.55: 1.0, 1.5: 6.0, 3.0: 3.0}
# The image's middle lies between the ventricles, so that both are in view: y and x, chosen.
MIDDLE_MM, SPREAD_MM = (0.0, 16.0), 4.0
ROTATION_RAD = 0.2


@dataclass(frozen=True)
class Population:
    """Who may be drawn.

    Attributes:
        kind: "normal", or "acdc": the five classes in turn, borderline hearts left out.
        split: Part of every patient's name and random numbers, so that splits share nobody.
        seed: Of all draws.
        vendors: Scanners, equally likely.
        fields: Field strengths in tesla; 0.55, 1.5 and 3 are drawn as 1 : 6 : 3.

    Raises:
        InputError: If any of these is unknown; all mistakes at once.
    """

    kind: Kind = "normal"
    split: Split = "test"
    seed: int = 0
    vendors: Sequence[str] = tuple(VENDORS)
    fields: Sequence[float] = FIELDS

    def __post_init__(self) -> None:
        for name in ("vendors", "fields"):
            several = getattr(self, name)
            if not isinstance(several, Sequence):
                raise InputError(f"{name}: expected a list, got {several!r}")
            object.__setattr__(self, name, tuple(several))
        problems = [
            f"{name}: expected one of {', '.join(legal)}, got {value!r}"
            for name, value, legal in (
                ("population", self.kind, get_args(Kind)),
                ("split", self.split, get_args(Split)),
            )
            if value not in legal
        ]
        for name in self.vendors:
            try:
                vendor(name)
            except InputError as error:
                problems.append(str(error))
        wrong = [field for field in self.fields if field not in FIELDS]
        if wrong:
            problems.append(f"fields: expected some of {FIELDS} tesla, got {wrong}")
        if not self.vendors or not self.fields:
            problems.append("vendors and fields: expected at least one of each")
        raise_together(problems)


def draw_patient(population: Population, number: int) -> Patient:
    """Draw the patient `number` of a population; who else is drawn makes no difference."""
    patient_id = f"{population.kind}-{population.split}-{number:05}"
    seed = seed_of(population.seed, patient_id)
    rng = stream(seed, "patient")
    diagnosis = CLASSES[number % len(CLASSES)] if population.kind == "acdc" else "normal"
    person, heart = draw_healthy(rng) if diagnosis == "normal" else draw_class(diagnosis, rng)
    weights = [SHARE_OF_FIELD[field] for field in population.fields]
    return Patient(
        patient_id=patient_id,
        person=person,
        diagnosis=diagnosis,
        heart=heart,
        torso=draw_torso(person, heart, rng),
        vendor=str(rng.choice(population.vendors)),
        field_t=float(rng.choice(population.fields, p=[w / sum(weights) for w in weights])),
        rotation_rad=float(rng.normal(0, ROTATION_RAD)),
        offset_mm=(
            MIDDLE_MM[0] + float(rng.normal(0, SPREAD_MM)),
            MIDDLE_MM[1] + float(rng.normal(0, SPREAD_MM)),
        ),
        seed=seed,
    )
