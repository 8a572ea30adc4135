"""Real patients of a folder, of whom only some are trained on: the plans beside this file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import robustbench_med as rb
from robustbench_med.cases import Case, CaseSummary, Cohort
from robustbench_med.errors import InputError
from robustbench_med.survey import survey


@dataclass(frozen=True)
class Chosen(Sequence[Case]):
    """Some cases of a sequence, as lazy as it is."""

    cases: Any
    indices: Sequence[int]
    summaries: Sequence[CaseSummary]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Case:
        """Read the case at `index`."""
        return self.cases[self.indices[index]]

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`."""
        return self.summaries[index]


def some(*, train_patients: int, draw: int = 1, split: str = "test", **settings: Any) -> Cohort:  # noqa: ANN401
    """All patients of a split; of the training split a few, drawn by a number.

    Those of a larger number hold those of a smaller one, so that curves over it can be read.

    Args:
        train_patients: How many to train on; 0 for all.
        draw: Another number draws others.
        split: Which one.
        settings: Of the cohort `folder`.

    Raises:
        InputError: If the split has fewer patients.
    """
    whole = rb.build("cohorts", "folder", split=split, **settings)
    if split != "train" or not train_patients:
        return whole
    summaries = survey(whole)
    patients = sorted({s.patient_id for s in summaries}, key=lambda name: _place(name, draw))
    if train_patients > len(patients):
        raise InputError(f"some: expected at most {len(patients)} patients, got {train_patients}")
    kept = set(patients[:train_patients])
    indices = [place for place, s in enumerate(summaries) if s.patient_id in kept]
    cases = Chosen(whole.cases, indices, [summaries[place] for place in indices])
    return Cohort(f"{whole.name}, {train_patients} patients", whole.task, whole.bounds, cases)


def _place(patient: str, draw: int) -> str:
    return hashlib.sha256(f"{draw}/{patient}".encode()).hexdigest()
