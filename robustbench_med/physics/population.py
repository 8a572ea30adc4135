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
        kind: "normal", or "acdc": its `classes` in turn, borderline hearts left out.
        split: Part of every patient's name and random numbers, so that splits share nobody.
        seed: Of all draws.
        vendors: Scanners, equally likely.
        fields: Field strengths in tesla; 0.55, 1.5 and 3 are drawn as 1 : 6 : 3.
        classes: Some of the five diagnoses, for "acdc".

    Raises:
        InputError: If any of these is unknown; all mistakes at once.
    """

    kind: Kind = "normal"
    split: Split = "test"
    seed: int = 0
    vendors: Sequence[str] = tuple(VENDORS)
    fields: Sequence[float] = FIELDS
    classes: Sequence[str] = CLASSES

    def __post_init__(self) -> None:
        for name in ("vendors", "fields", "classes"):
            several = getattr(self, name)
            if not isinstance(several, Sequence) or isinstance(several, str):
                raise InputError(f"{name}: expected a list, got {several!r}")
            object.__setattr__(self, name, tuple(several))
        raise_together([*_unknown_words(self), *_wrong_lists(self)])


def _unknown_words(population: Population) -> list[str]:
    return [
        f"{name}: expected one of {', '.join(legal)}, got {value!r}"
        for name, value, legal in (
            ("population", population.kind, get_args(Kind)),
            ("split", population.split, get_args(Split)),
        )
        if value not in legal
    ]


def _wrong_lists(population: Population) -> list[str]:
    problems = []
    for name in population.vendors:
        try:
            vendor(name)
        except InputError as error:
            problems.append(str(error))
    for what, known, told in (
        ("fields", FIELDS, f"{FIELDS} tesla"),
        ("classes", CLASSES, ", ".join(CLASSES)),
    ):
        unknown = [each for each in getattr(population, what) if each not in known]
        if unknown:
            problems.append(f"{what}: expected some of {told}, got {unknown}")
    if not (population.vendors and population.fields and population.classes):
        problems.append("vendors, fields and classes: expected at least one of each")
    if population.kind == "normal" and population.classes != CLASSES:
        problems.append("classes: are those of population 'acdc', got 'normal'")
    return problems


def draw_patient(population: Population, number: int) -> Patient:
    """Draw the patient `number` of a population; who else is drawn makes no difference."""
    patient_id = f"{population.kind}-{population.split}-{number:05}"
    seed = seed_of(population.seed, patient_id)
    rng = stream(seed, "patient")
    classes = population.classes if population.kind == "acdc" else ("normal",)
    diagnosis = classes[number % len(classes)]
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
