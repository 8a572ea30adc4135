"""Probabilities behind a detection metric, case by case, with the patients they belong to."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.wording import FEW
from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import Flags
from robustbench_med.statistics.slices import EVERYONE, Slice, slices_of


@dataclass(frozen=True)
class CaseScores:
    """Cases that have a probability and a truth on clean images.

    Attributes:
        cases: One row per case: `patient_id`, attributes.
        score: `(c,)`, probability of the finding.
        positive: `(c,)`, whether it is there.
    """

    cases: pd.DataFrame
    score: Floats
    positive: Flags

    def of(self, group: Slice) -> "CaseScores":
        """The cases of one group."""
        chosen = group.mask(self.cases)
        return CaseScores(self.cases[chosen], self.score[chosen], self.positive[chosen])

    @property
    def patients(self) -> tuple[int, int]:
        """Patients with a case that has the finding, and with one that has not."""
        ids = self.cases["patient_id"].to_numpy()
        return len(set(ids[self.positive])), len(set(ids[~self.positive]))

    @property
    def shown(self) -> bool:
        """Whether enough patients stand on both sides to draw a curve."""
        return min(self.patients) >= FEW


def case_scores(evidence: Evidence, metric: str) -> CaseScores | None:
    """What a detection metric recorded on clean images; None where it recorded nothing."""
    clean = evidence.records[evidence.records["kind"] == "clean"]
    given = clean[clean["metric"] == metric].set_index("case_id")["value"]
    true = clean[clean["metric"] == f"{metric}.true"].set_index("case_id")["value"]
    known = pd.DataFrame({"given": given, "true": true}).dropna()
    cases = evidence.cases.merge(known, left_on="case_id", right_index=True)
    if cases.empty:
        return None
    cases = cases.sort_values(["patient_id", "case_id"]).reset_index(drop=True)
    positive = cases["true"].to_numpy() == 1
    value = cases["given"].to_numpy(dtype=np.float64)
    return CaseScores(cases, np.where(positive, value, 1 - value), positive)


def curves(evidence: Evidence, found: CaseScores, most: int) -> list[tuple[str, list[Slice]]]:
    """By subgroup, the groups that have enough patients for a curve of their own.

    Args:
        evidence: The run.
        found: The cases.
        most: Groups per subgroup; the largest are kept. Subgroups with none are left out.
    """
    panels = [("all patients", [EVERYONE])] if found.shown else []
    for columns in evidence.manifest["subgroups"]:
        groups = [g for g in slices_of(found.cases, columns) if found.of(g).shown]
        largest = sorted(groups, key=lambda group: -len(found.of(group).score))[:most]
        if len(groups) > 1:
            panels.append((groups[0].subgroup, [g for g in groups if g in largest]))
    return panels
