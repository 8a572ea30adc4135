"""Which diagnoses the rules can give for measures that are known as intervals only."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from robustbench_med.clinical.diagnosis import DIAGNOSES, REGIONAL_MOTION, diagnose
from robustbench_med.clinical.limits import Interval
from robustbench_med.clinical.measures import Measures
from robustbench_med.clinical.walls import THICK_MM
from robustbench_med.errors import InputError

# What the rules compare each measure with; volumes are indexed. Between two of these, and at each
# of them, no rule changes its answer: one value from every such stretch stands for all of it.
CUTS: Mapping[str, tuple[float, ...]] = {
    "lvedv": (80, 90, 100),
    "lvef": (40, 50, 55),
    "rvedv": (100, 110),
    "rvef": (40, 45),
    "wall_mm": (12, THICK_MM),
    "thick_segments": (1,),
    "motion_range": (REGIONAL_MOTION,),
}
# Each cut of these is read by one kind of test only, so values beside the cuts are enough.
ANY_WALLS: Mapping[str, tuple[float, ...]] = {
    "wall_mm": (11, 13, THICK_MM + 1),
    "thick_segments": (0, 2),
    "motion_range": (0, 2 * REGIONAL_MOTION),
}


@dataclass(frozen=True)
class WallLimits:
    """Limits of the measures of the wall; they do not follow from counts of pixels.

    Attributes:
        wall_mm: As of `Measures`; so are the others.
        thick_segments: As of `Measures`.
        motion_range: As of `Measures`.
    """

    wall_mm: Interval
    thick_segments: Interval
    motion_range: Interval


def diagnosis_limits(
    limits: Mapping[str, Interval], *, bsa: float, male: bool, walls: WallLimits | None = None
) -> frozenset[str | None]:
    """Every answer that `diagnose` gives for measures anywhere within their limits.

    The measures vary independently here, while those of real masks hang together: no answer that
    can be reached is missing, but one may be listed that cannot.

    Args:
        limits: Lowest and highest `lvedv` and `rvedv` in mL, `lvef` and `rvef` in %; the latter
            of the cases where they are defined, NaN where there are none.
        bsa: Body surface area, m^2.
        male: Whether the limits are those for men.
        walls: None where nothing is known of the walls: then every test that reads them may
            turn out either way, and they may be undefined.

    Returns:
        Of `DIAGNOSES`; and None if it can be that no rule is met, or that a measure is undefined:
        always without `walls`, and where an end-diastolic volume can be 0.

    Raises:
        InputError: If a limit is missing, or a lower one above the upper, or `bsa` is no positive
            number.
    """
    if not 0 < bsa < np.inf:
        raise InputError(f"diagnosis_limits: bsa must be a positive number of m^2, got {bsa}")
    known = _known(limits, walls)
    for name in ("lvedv", "rvedv"):
        known[name] = (known[name][0] / bsa, known[name][1] / bsa)
    undefined = walls is None or not min(known["lvedv"][0], known["rvedv"][0]) > 0
    reached: set[str | None] = {None} if undefined else set()
    axes = {name: _stand_ins(known[name], CUTS[name]) for name in known}
    axes |= {name: list(values) for name, values in ANY_WALLS.items() if name not in known}
    # Indexed volumes were divided already, as `diagnose` does it: a body surface of 1 m^2.
    for values in itertools.product(*axes.values()):
        measures = _measures(dict(zip(axes, values, strict=True)))
        reached.add(diagnose(measures, bsa=1.0, male=male))
        if len(reached) > len(DIAGNOSES):
            break  # all of them and None
    return frozenset(reached)


def _known(limits: Mapping[str, Interval], walls: WallLimits | None) -> dict[str, Interval]:
    missing = [name for name in ("lvedv", "lvef", "rvedv", "rvef") if name not in limits]
    if missing:
        raise InputError(f"diagnosis_limits: expected limits of {', '.join(missing)}, got none")
    known = {name: limits[name] for name in ("lvedv", "lvef", "rvedv", "rvef")}
    if walls is not None:
        known |= {field.name: getattr(walls, field.name) for field in fields(walls)}
    for name, (low, high) in known.items():
        if low > high or np.isnan(low) != np.isnan(high):
            raise InputError(f"diagnosis_limits: {name} must be (low, high), got ({low}, {high})")
    return known


def _stand_ins(limits: Interval, cuts: tuple[float, ...]) -> list[float]:
    """One value at least of each stretch on which no test changes."""
    low, high = limits
    if not low < high:
        return [low]
    ends = [low, *(cut for cut in cuts if low < cut < high), high]
    between = [before + (after - before) / 2 for before, after in itertools.pairwise(ends)]
    return [*ends, *(value for value in between if np.isfinite(value))]


def _measures(known: Mapping[str, float]) -> Measures:
    absent = {field.name: np.nan for field in fields(Measures)}
    return Measures(**absent | dict(known))
