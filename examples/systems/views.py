"""Simulated patients as other networks want them: volumes, series to learn in strips, measures."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import robustbench_med as rb
from robustbench_med.cases import Case, CaseSummary, Cohort, Task
from robustbench_med.clinical import DIAGNOSES, diagnose, measure

PHASES = ("ED", "ES")
USUAL = {
    "lvedv": (75.0, 20.0), "lvesv": (35.0, 20.0), "lvef": (55.0, 12.0), "lvm": (60.0, 20.0),
    "rvedv": (80.0, 20.0), "rvesv": (40.0, 20.0), "rvef": (52.0, 10.0), "wall_mm": (10.0, 4.0),
    "thick_segments": (2.0, 4.0), "motion_range": (0.1, 0.1),
}  # fmt: skip
"""Of each measure about the mean and the spread; volumes and the mass by body surface area."""
INDEXED = ("lvedv", "lvesv", "lvm", "rvedv", "rvesv")


@dataclass(frozen=True)
class Seen(Sequence[Case]):
    """Cases made from those of another sequence when they are asked for.

    Attributes:
        cases: Simulated patients.
        parts: How many cases each gives.
        make: Of a patient's case and the number of the part.
        told: What is made, for the digest.
    """

    cases: Any
    parts: int
    make: Callable[[Case, int], Case]
    told: str

    def __len__(self) -> int:
        return self.parts * len(self.cases)

    def __getitem__(self, index: int) -> Case:
        """Make the case at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.make(self.cases[index // self.parts], index % self.parts)

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`."""
        patient: CaseSummary = self.cases.summary(index // self.parts)
        part = index % self.parts
        digest = hashlib.sha256(f"{patient.digest}{self.told}{part}".encode()).hexdigest()
        return replace(patient, case_id=_named(patient.case_id, self.parts, part), digest=digest)


@dataclass(frozen=True)
class Kept(Sequence[Case]):
    """The same cases, each made once and kept: where making one takes long and it is small.

    Attributes:
        cases: With summaries.
        made: Those asked for so far, by index.
    """

    cases: Seen
    made: dict[int, Case] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        """Make the case at `index`, or find it."""
        if index not in self.made:
            self.made[index] = self.cases[index]
        return self.made[index]

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`."""
        return self.cases.summary(index)


def _named(case_id: str, parts: int, part: int) -> str:
    return case_id if parts == 1 else f"{case_id}_{PHASES[part]}"


def _phase(case: Case, part: int) -> Case:
    return replace(case, case_id=_named(case.case_id, 2, part), image=case.image[:, part],
                   target=case.target[part],
                   context={"spacing": case.context["spacing"]})  # fmt: skip


def volumes(**settings: Any) -> Cohort:  # noqa: ANN401 (those of `synthetic_cine`)
    """Stacks `(1, z, y, x)` of one phase, two of each patient, with their labels `(z, y, x)`."""
    patients = rb.build("cohorts", "synthetic_cine", task="patient", **settings)

    cases = Seen(patients.cases, 2, _phase, "phase")
    return Cohort("volumes of simulated hearts", patients.task, patients.bounds, cases)


def _measured(case: Case, _: int) -> Case:
    size, male = float(case.context["bsa"]), bool(case.context["male"])
    found = measure(case.target.numpy(), case.context["spacing"].numpy())
    values = [_scaled(name, getattr(found, name), size) for name in USUAL]
    told = diagnose(found, bsa=size, male=male) or str(case.attributes["diagnosis"])
    return replace(case, image=torch.tensor([*values, float(male)]), context={},
                   target=torch.tensor(DIAGNOSES.index(told)))  # fmt: skip


def series(*, strip: int, split: str = "test", **settings: Any) -> Cohort:  # noqa: ANN401
    """Series over the cycle: strips of `strip` columns to learn from, whole images to be tested."""
    width = strip if split == "train" else None
    made: Cohort = rb.build(
        "cohorts", "synthetic_cine", task="dynamic", split=split, strip=width, **settings
    )
    return made


def measures(**settings: Any) -> Cohort:  # noqa: ANN401
    """What is measured on a patient's true masks, `(11,)`, and the rules' diagnosis of them.

    Ten measures, each less its usual mean over its spread, and the sex. A patient whom no rule
    names has the simulator's diagnosis.
    """
    patients = rb.build("cohorts", "synthetic_cine", task="patient", **settings)

    task = Task("classification", tuple(DIAGNOSES))
    cases = Kept(Seen(patients.cases, 1, _measured, "measures"))
    return Cohort("measures of simulated hearts", task, (-math.inf, math.inf), cases)


def _scaled(name: str, value: float, bsa: float) -> float:
    mean, spread = USUAL[name]
    held = 0.0 if math.isnan(value) else value
    return ((held / bsa if name in INDEXED else held) - mean) / spread
