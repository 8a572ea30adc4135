"""Looks for the worst group that can be described, and corrects for having looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.comparison import Difference
from robustbench_med.statistics.estimate import Estimate
from robustbench_med.statistics.multiplicity import benjamini_hochberg
from robustbench_med.statistics.rest import against_rest
from robustbench_med.statistics.samples import sample
from robustbench_med.statistics.scores import Flags
from robustbench_med.statistics.slices import Slice, recorded, slices_of
from robustbench_med.statistics.study import Study

LEAST_PATIENTS = 20
MOST_VALUES = 12
SEARCH = pa.schema(
    [
        ("probe", pa.string()),
        ("kind", pa.string()),
        ("level", pa.float64()),
        ("metric", pa.string()),
        ("better", pa.string()),
        ("subgroup", pa.string()),
        ("group", pa.string()),
        ("patients", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("rest_value", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("p", pa.float64()),
        ("p_bh", pa.float64()),
        ("p_joint", pa.float64()),
        ("searched", pa.int64()),
    ]
)


@dataclass(frozen=True)
class _Hit:
    """One describable group and its gap; arrays and lists have a place per column.

    Attributes:
        group: Who is in it.
        own: Of the group; likewise `rest`.
        patients: `(2, q)`, that decide, in the group and outside.
        differences: Group minus rest.
        statistic: `(q,)`, see `Gap`.
    """

    group: Slice
    own: list[Estimate]
    rest: list[Estimate]
    patients: NDArray[np.intp]
    differences: list[Difference]
    statistic: Floats


def search_of(study: Study, attributes: Sequence[str]) -> pd.DataFrame:
    """Hold every describable group against the rest.

    Describable are the values of one attribute, and of two at once, with at least
    `LEAST_PATIENTS` patients inside and outside. An attribute of more than `MOST_VALUES` values
    describes nobody. Groups of the same cases are looked at once.

    Args:
        study: The run.
        attributes: Among whose values is searched.

    Returns:
        One row per probe, metric and group, `SEARCH`. `p_joint` says how often chance alone
        makes any of the searched groups, under that probe and metric, as extreme; `p_bh` is
        Benjamini and Hochberg's over the same.

    Raises:
        InputError: If an attribute is not in the cases.
    """
    readings = [reading for reading in study.readings if reading.by_patient]
    columns = [(reading, probe) for reading in readings for probe in reading.probes]
    hits, largest = [], np.zeros(len(columns))
    for group, chosen in describable(study, attributes):
        own = sample(readings, study.drawn, chosen)
        gap = against_rest(readings, study.drawn, own, chosen)
        if gap is not None:
            largest = np.maximum(largest, np.abs(gap.draws))
            patients = np.stack([own.portion.deciding, gap.rest.portion.deciding])
            hits.append(
                _Hit(group, own.estimates, gap.rest.estimates, patients, gap.differences,
                     gap.statistic)
            )  # fmt: skip
    rows = []
    for column, (reading, probe) in enumerate(columns):
        told = {"probe": probe.name, "kind": probe.kind, "level": probe.level,
                "metric": reading.metric, "better": reading.better}  # fmt: skip
        rows += [{**told, **row} for row in _rows(hits, column, largest)]
    table: pd.DataFrame = pa.Table.from_pylist(rows, SEARCH).to_pandas()
    return table


def describable(study: Study, attributes: Sequence[str]) -> list[tuple[Slice, Flags]]:
    """Groups worth holding against the rest, each with its cases."""
    named = [a for a in attributes if recorded(study.cases, a).nunique() <= MOST_VALUES]
    combined = [*((a,) for a in named), *combinations(named, 2)]
    slices = [found for columns in combined for found in slices_of(study.cases, columns)]
    known: dict[bytes, tuple[Slice, Flags]] = {}
    for found in slices:
        chosen = found.mask(study.cases)
        sides = [len(np.unique(study.drawn.patient_ids[side])) for side in (chosen, ~chosen)]
        if min(sides) >= LEAST_PATIENTS:
            known.setdefault(chosen.tobytes(), (found, chosen))
    return list(known.values())


def _rows(hits: Sequence[_Hit], column: int, largest: Floats) -> list[dict[str, object]]:
    adjusted = benjamini_hochberg(np.array([hit.differences[column].p for hit in hits]))
    rows = []
    for hit, p_bh in zip(hits, adjusted, strict=True):
        difference, own = hit.differences[column], hit.own[column]
        if hit.patients[:, column].min() < LEAST_PATIENTS or np.isnan(difference.p):
            continue
        beyond = np.count_nonzero(largest[:, column] >= abs(hit.statistic[column]))
        rows.append({
            "subgroup": hit.group.subgroup, "group": hit.group.group,
            "patients": int(hit.patients[0, column]),
            "value": own.value, "low": own.low, "high": own.high,
            "rest_value": hit.rest[column].value, "difference": difference.value,
            "difference_low": difference.low, "difference_high": difference.high,
            "p": difference.p, "p_bh": float(p_bh),
            "p_joint": (1 + beyond) / (len(largest) + 1), "searched": len(hits),
        })  # fmt: skip
    return rows
