"""How wide certified limits are and what they settle, as rows of a table."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_med.clinical import EJECTION_CUTS
from robustbench_med.reports import rows as estimate_rows
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.wording import label
from robustbench_med.statistics.bootstrap import Counts8, draw_patients, generator
from robustbench_med.statistics.certain import READ, Certain
from robustbench_med.statistics.estimate import Estimate, of_share
from robustbench_med.statistics.median import median_estimate
from robustbench_med.statistics.slices import Slice
from robustbench_med.statistics.table import status_of

COLUMNS = ("Certificate", "Group", "Quantity", "Value", "95% interval", "Patients",
           "Interval by", "Note")  # fmt: skip
NAMES = {"lvef": "LVEF, percentage points", "lvm": "LV mass, g", "rvef": "RVEF, percentage points"}
SETTLED = "Share whose LVEF cannot leave its class (below 40, 40 to 50, 50 and above)"
ONE_LEFT = "Share for whom at most one of five diagnoses stays possible, beside none"


@dataclass(frozen=True)
class Held:
    """The patients that have limits under one certificate.

    Attributes:
        probe: The certificate.
        patients: `p` of them.
        attributes: `p` rows, in their order.
        draws: `(draws, p)`, how often each is drawn.
        in_all: Patients of the run.
    """

    probe: str
    patients: list[Certain]
    attributes: pd.DataFrame
    draws: Counts8
    in_all: int


@dataclass(frozen=True)
class _Row:
    """What `reports.rows` reads."""

    subgroup: str
    group: str
    value: float
    low: float
    high: float
    patients: int
    status: str
    reason: str
    method: str
    cases: int = 0


def held(evidence: Evidence, probe: str, certain: Sequence[Certain]) -> Held:
    """Keep the patients with limits, with their attributes and their draws."""
    known = [one for one in certain if not one.left_out]
    every = evidence.cases.drop_duplicates("patient_id").set_index("patient_id", drop=False)
    names = [one.patient_id for one in known]
    attributes = every.loc[names].reset_index(drop=True)
    draws = draw_patients(len(known), generator(int(evidence.manifest["seed"]), "limits"))
    return Held(probe, known, attributes, draws, len(every))


def quantities(view: Held, group: Slice) -> Iterator[tuple[str, ...]]:
    """Rows of one group; of a named group only those that may be shown."""
    chosen = np.flatnonzero(group.mask(view.attributes))
    for name, values, share in _values([view.patients[place] for place in chosen]):
        known = np.array([place for place, value in zip(chosen, values, strict=True)
                          if not math.isnan(value)], dtype=np.intp)  # fmt: skip
        defined = np.array([value for value in values if not math.isnan(value)])
        if not len(defined):
            continue
        made = (
            of_share(defined, np.ones(len(defined)))
            if share
            else median_estimate(defined, view.draws[:, known])
        )
        row = _row(view, group, made, len(defined))
        if group.subgroup and row.status == "suppressed":
            continue
        value, limits, patients, _ = estimate_rows.cells(row)
        yield (
            label(view.probe), estimate_rows.group_name(row), name, value, limits, patients,
            estimate_rows.method(row), estimate_rows.reason(row),
        )  # fmt: skip


def _row(view: Held, group: Slice, made: Estimate, patients: int) -> _Row:
    status, reason = status_of(made.value, made.low, patients, view.in_all)
    ends = made.value, made.low, made.high
    return _Row(group.subgroup, group.group, *ends, patients, status, reason, made.method)


def _values(patients: Sequence[Certain]) -> Iterator[tuple[str, list[float], bool]]:
    """Name, one value per patient, NaN where undefined, and whether they make a share."""
    for measure in READ:
        for way, of in (("certified", "limits"), ("reached by attacks", "reached")):
            ends = [(getattr(one, of) or {}).get(measure, (math.nan,) * 2) for one in patients]
            yield f"Width {way}: {NAMES[measure]}", [high - low for low, high in ends], False
    yield SETTLED, [_settled(one) for one in patients], True
    left = [math.nan if one.diagnoses is None else float(len(one.diagnoses) <= 1)
            for one in patients]  # fmt: skip
    yield ONE_LEFT, left, True


def _settled(one: Certain) -> float:
    low, high = (one.limits or {}).get("lvef", (math.nan,) * 2)
    if math.isnan(low):
        return math.nan
    same = bisect_right(EJECTION_CUTS, low) == bisect_right(EJECTION_CUTS, high)
    # Without a lower limit the ventricle itself may be lost, and its class with it.
    return float(math.isfinite(low) and same)
