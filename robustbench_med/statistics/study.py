"""A run's tables made ready: readings, patients and their draws, and the findings by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.statistics.bootstrap import draw_patients, generator
from robustbench_med.statistics.groups import GroupFindings, find
from robustbench_med.statistics.reading import asked_cases, read_scores
from robustbench_med.statistics.readings import Reading, readings_of
from robustbench_med.statistics.samples import Drawn
from robustbench_med.statistics.scores import ProbeEntry
from robustbench_med.statistics.slices import EVERYONE, Slice, slices_of
from robustbench_med.statistics.worst import with_worst


@dataclass(frozen=True)
class Study:
    """All that the tables of a run are made from.

    Attributes:
        cases: That any probe was put to, ordered by patient and case.
        readings: What is read off the records.
        drawn: Patients and their draws.
        probes: Names, in the manifest's order.
        validity: Verdict on each attack and worst case that was checked, by name.
    """

    cases: pd.DataFrame
    readings: Sequence[Reading]
    drawn: Drawn
    probes: Sequence[str]
    validity: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[tuple[Reading, ProbeEntry]]:
        """Every reading under every one of its probes: what arrays of `q` columns run over."""
        return [(reading, probe) for reading in self.readings for probe in reading.probes]

    @property
    def patients(self) -> int:
        """How many there are in all."""
        return int(self.drawn.table.shape[1])


def open_study(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> Study:
    """Read a run's tables.

    Args:
        records: `case_id, probe, kind, level, metric, value`.
        cases: `case_id, patient_id, split`, then attributes.
        failures: `case_id, probe, kind, error, message`.
        manifest: With `seed`, `metrics`, `probes` and `subgroups`; it may have `validity`.

    Raises:
        InputError: If the tables do not belong together.
        IntegrityError: If a case has two values of one metric under one probe.
    """
    cases = asked_cases(records, cases, failures)
    scores = [with_worst(found) for found in read_scores(records, cases, failures, manifest)]
    patient_ids = pd.factorize(cases["patient_id"])[0]
    patients = int(patient_ids.max()) + 1 if len(cases) else 0
    table = draw_patients(patients, generator(int(manifest["seed"])))
    names = [entry["name"] for entry in manifest["probes"]]
    said = manifest.get("validity") or {}
    validity = {name: str(entry["verdict"]) for name, entry in said.items()}
    return Study(cases, readings_of(scores), Drawn(patient_ids, table), names, validity)


def findings_of(study: Study, subgroups: Sequence[Sequence[str]]) -> list[GroupFindings]:
    """Everyone, then every group of the declared subgroups.

    Raises:
        InputError: If a subgroup is no attribute.
    """
    groups = [found for columns in subgroups for found in slices_of(study.cases, columns)]
    if study.cases.empty or not study.readings:
        return []
    return [in_group(study, group) for group in [EVERYONE, *groups]]


def in_group(study: Study, group: Slice) -> GroupFindings:
    """What is found in one group."""
    return find(study.readings, study.drawn, group, group.mask(study.cases))


def distinct_tests(findings: Sequence[GroupFindings]) -> np.ndarray:
    """Which test each group's comparison is, `(groups,)`: a group and its rest make one test.

    Two groups that part the cohort (F and M) ask the same question twice; it is corrected for
    once.
    """
    known: dict[bytes, int] = {}
    return np.array([
        known.setdefault(min(found.chosen.tobytes(), (~found.chosen).tobytes()), place)
        for place, found in enumerate(findings)
    ])  # fmt: skip
