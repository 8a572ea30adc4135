"""What a subgroup shows as a whole: whether its groups differ, and which is the worst."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from robustbench_med.statistics.bootstrap import Floats, generator
from robustbench_med.statistics.groups import GroupFindings
from robustbench_med.statistics.heterogeneity import Gap, permuted_gap
from robustbench_med.statistics.multiplicity import max_t
from robustbench_med.statistics.proportions import score_limits
from robustbench_med.statistics.rest import SHOWN_FROM
from robustbench_med.statistics.study import Study
from robustbench_med.statistics.worst_group import WorstGroup, worst_group

GAPS = pa.schema(
    [
        ("probe", pa.string()),
        ("kind", pa.string()),
        ("level", pa.float64()),
        ("metric", pa.string()),
        ("better", pa.string()),
        ("subgroup", pa.string()),
        ("groups", pa.int64()),
        ("p_any", pa.float64()),
        ("range", pa.float64()),
        ("range_by_chance", pa.float64()),
        ("range_p", pa.float64()),
        ("worst", pa.string()),
        ("worst_value", pa.float64()),
        ("worst_corrected", pa.float64()),
        ("worst_low", pa.float64()),
        ("worst_high", pa.float64()),
        ("spread", pa.float64()),
    ]
)
SHUFFLED_UP_TO = 20_000
"""Patients beyond which the range is not shuffled: with so many, chance makes little of it."""
NO_GAP = Gap(math.nan, math.nan, math.nan)


def gaps_of(study: Study, findings: Sequence[GroupFindings], seed: int) -> pd.DataFrame:
    """One row per probe, metric and declared subgroup with at least two groups to compare."""
    rows = [
        row
        for subgroup in dict.fromkeys(found.group.subgroup for found in findings)
        if subgroup and study.patients >= 2 * SHOWN_FROM
        for row in _rows_of(study, [f for f in findings if f.group.subgroup == subgroup], seed)
    ]
    table: pd.DataFrame = pa.Table.from_pylist(rows, GAPS).to_pandas()
    return table


def _rows_of(study: Study, groups: list[GroupFindings], seed: int) -> Iterator[dict[str, object]]:
    for column, (reading, probe) in enumerate(study.columns):
        shown = [g for g in groups if g.deciding[column] >= SHOWN_FROM and _known(g, column)]
        worst = _worst(shown, column, reading.better) if len(shown) > 1 else None
        if worst is None:
            continue
        plain = probe.kind == "clean" and reading.by_patient
        yield {
            "probe": probe.name,
            "kind": probe.kind,
            "level": probe.level,
            "metric": reading.metric,
            "better": reading.better,
            "subgroup": shown[0].group.subgroup,
            "groups": len(shown),
            "p_any": _any(shown, column),
            **_range(_shuffled(study, shown, column, seed) if plain else NO_GAP),
            "worst": shown[worst.place].group.group,
            "worst_value": worst.value,
            "worst_corrected": worst.corrected,
            "worst_low": worst.low,
            "worst_high": worst.high,
            "spread": worst.spread,
        }


def _known(found: GroupFindings, column: int) -> bool:
    return math.isfinite(found.estimates[column].value)


def _range(gap: Gap) -> dict[str, object]:
    return {"range": gap.value, "range_by_chance": gap.chance, "range_p": gap.p}


def _any(groups: Sequence[GroupFindings], column: int) -> float:
    """p-value of "no group differs from its rest", by the largest of their deviates."""
    gaps = [g.gap for g in groups if g.gap is not None and g.compared[column]]
    tested = [gap for gap in gaps if not math.isnan(gap.statistic[column])]
    if not tested:
        return math.nan
    observed = np.array([gap.statistic[column] for gap in tested])
    return float(max_t(observed, np.stack([gap.draws[:, column] for gap in tested], axis=1)).min())


def _worst(groups: Sequence[GroupFindings], column: int, better: str) -> WorstGroup | None:
    """The worst group, with limits that hold for all groups at once.

    Those of shares are Wilson's at Bonferroni's level, all others by the largest |t|.
    """
    values = np.array([g.estimates[column].value for g in groups])
    errors = np.array([g.errors[column] for g in groups])
    largest = np.max([np.abs(g.draws[:, column]) for g in groups], axis=0)
    quantile = float(np.sort(largest)[int(0.95 * (len(largest) + 1)) - 1])
    found = worst_group(values, errors, better, quantile)  # type: ignore[arg-type]
    if found is None:
        return None
    share = groups[found.place].estimates[column]
    if not math.isnan(share.trials):
        z = float(stats.norm.isf(0.025 / len(groups)))
        return _with(found, score_limits(share.value, share.trials, z))
    return found if math.isfinite(found.low) else _with(found, (math.nan, math.nan))


def _with(found: WorstGroup, limits: tuple[float, float]) -> WorstGroup:
    return WorstGroup(found.place, found.value, found.corrected, limits[0], limits[1], found.spread)


def _shuffled(study: Study, groups: Sequence[GroupFindings], column: int, seed: int) -> Gap:
    """How far apart the extremes are, and how far chance alone would put them."""
    if study.patients > SHUFFLED_UP_TO:
        return NO_GAP
    reading, probe = study.columns[column]
    place = reading.probes.index(probe)
    parts: list[tuple[Floats, Floats]] = []
    for found in groups:
        sums = reading.of(study.drawn.patient_ids, found.chosen).sums
        if sums is None:
            return NO_GAP
        parts.append((sums.numerator[:, place], sums.denominator[:, place]))
    labels = np.repeat(np.arange(len(parts)), [len(above) for above, _ in parts])
    above, below = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    if not np.isfinite(above).all():
        return NO_GAP
    name = f"{reading.metric}|{groups[0].group.subgroup}"
    return permuted_gap(above, below, labels, generator(seed, name))
