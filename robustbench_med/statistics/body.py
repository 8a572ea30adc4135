"""What an attribute table tells of a patient's body."""

import math

import pandas as pd

from robustbench_med.clinical import bsa

SEXES = {"m": True, "male": True, "f": False, "female": False}


def body_of(case: pd.Series) -> tuple[float, bool] | None:
    """Read body surface area in m^2 and whether the limits are those for men.

    Args:
        case: Attributes: `bsa_m2`, or `height_cm` and `weight_kg`; `sex`, `F` or `M`.

    Returns:
        None where either is not known.
    """
    male = SEXES.get(str(case.get("sex")).lower())
    surface = _number(case.get("bsa_m2"))
    if math.isnan(surface):
        size = _number(case.get("height_cm")), _number(case.get("weight_kg"))
        known = all(0 < each < math.inf for each in size)
        surface = bsa(*size) if known else math.nan
    return None if male is None or not 0 < surface < math.inf else (surface, male)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
