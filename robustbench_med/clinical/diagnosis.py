"""Which class of the ACDC challenge a patient's measures belong to."""

import math

from robustbench_med.clinical.measures import Measures
from robustbench_med.clinical.walls import THICK_MM
from robustbench_med.errors import InputError

DIAGNOSES = ("NOR", "MINF", "DCM", "HCM", "RV")
REGIONAL_MOTION = 0.12


def diagnose(measures: Measures, *, bsa: float, male: bool, margin: float = 0.0) -> str | None:
    """Class of the ACDC challenge that the measures meet, or None.

    Rules are tried in the order MINF, DCM, HCM, RV, NOR and the first that is met answers. None
    where none is met (an ejection fraction between 40 and 50 % with nothing else, say), and
    where a measure that any rule reads is NaN. RVEF from 40 to 45 % is neither NOR nor RV.

    A regional abnormality of wall motion is a judgement by eye in ACDC. The operational form
    here, `motion_range` of at least `REGIONAL_MOTION`, is this project's own, as is the order
    of HCM before RV.

    Args:
        measures: Of one patient.
        bsa: Body surface area, m^2.
        male: Whether the limits are those for men.
        margin: Relative distance to spare. Limits move by this share: a rule is surely met if
            it still is with each limit that share harder, and possibly met if it is with each
            that share easier. The first that is possibly met answers, if it is surely met.

    Returns:
        One of `DIAGNOSES`, or None.

    Raises:
        InputError: If `bsa` is not a positive number, or `margin` not in [0, 1).

    Source: Bernard et al., IEEE TMI 37 (2018) 2514, section on the cohort.
    """
    if not 0 < bsa < math.inf:
        raise InputError(f"diagnose: bsa must be a positive number of m^2, got {bsa}")
    if not 0 <= margin < 1:
        raise InputError(f"diagnose: margin must be at least 0 and below 1, got {margin}")
    read = ("lvedv", "lvef", "rvedv", "rvef", "wall_mm", "thick_segments", "motion_range")
    if any(math.isnan(getattr(measures, name)) for name in read):
        return None
    possibly = _rules_met(measures, bsa, male=male, margin=-margin)
    surely = _rules_met(measures, bsa, male=male, margin=margin)
    first = next((name for name, met in possibly.items() if met), None)
    return first if first is not None and surely[first] else None


def _rules_met(m: Measures, bsa: float, *, male: bool, margin: float) -> dict[str, bool]:
    """Which rules are met with `margin` to spare, in order; a negative one forgives."""
    above, below = 1 + margin, 1 - margin
    lvedv_index, rvedv_index = m.lvedv / bsa, m.rvedv / bsa
    failing = m.lvef < 40 * below
    regional = m.motion_range >= REGIONAL_MOTION * above
    thick = m.thick_segments > 1 * above and m.wall_mm > THICK_MM * above
    thin = m.wall_mm < 12 * below
    rv_pumps = m.rvef > 45 * above
    rv_wide = rvedv_index > (110 if male else 100) * above
    return {
        "MINF": failing and (regional or thick),
        "DCM": failing
        and lvedv_index > 100 * above
        and thin
        and m.motion_range < REGIONAL_MOTION * below,
        "HCM": m.lvef > 55 * above and thick,
        "RV": m.rvef < 40 * below or (rv_wide and rv_pumps),
        "NOR": m.lvef > 50 * above
        and lvedv_index < (90 if male else 80) * below
        and thin
        and rvedv_index < 100 * below
        and rv_pumps,
    }
