"""Reference zones: whether a measure is low, normal or high for the patient's sex."""

from collections.abc import Mapping
from math import isnan
from types import MappingProxyType
from typing import Literal

from robustbench_med.errors import InputError

Zone = Literal["low", "normal", "high"]
Cuts = tuple[float, float]

CUTS: Mapping[str, tuple[Cuts, Cuts]] = MappingProxyType(
    {
        "lvedv": ((93, 232), (80, 175)),
        "lvesv": ((34, 103), (25, 73)),
        "lvsv": ((49, 140), (47, 110)),
        "rvedv": ((99, 260), (83, 192)),
        "rvesv": ((34, 135), (26, 95)),
        "rvsv": ((54, 140), (47, 107)),
    }
)
"""By measure, in mL: the lowest and the highest that are normal, of men and of women."""

EJECTION_CUTS = (40.0, 50.0)
"""Of an LVEF, in %: reduced below the first, preserved from the second on.

Source: Ezekowitz et al., Can J Cardiol 33 (2017) 1342, section 2.1, in whole percentages: reduced
up to 40, preserved from 50. Deviation: 40 itself is not reduced, as in `diagnose`."""

INDEXED: Mapping[str, tuple[Cuts, Cuts]] = MappingProxyType(
    {
        "lvedv": ((52, 117), (50, 101)),
        "lvesv": ((19, 52), (16, 43)),
        "lvsv": ((28, 70), (29, 63)),
        "rvedv": ((55, 128), (51, 110)),
        "rvesv": ((19, 67), (16, 55)),
        "rvsv": ((30, 69), (29, 61)),
    }
)
"""The same by body surface area, in mL/m^2."""


def zone(measure: str, value: float, *, male: bool, bsa: float | None = None) -> Zone | None:
    """Say in which zone of healthy adults a volume lies.

    Args:
        measure: A volume of `Measures`: `lvedv`, `lvesv`, `lvsv`, `rvedv`, `rvesv` or `rvsv`.
        value: In mL.
        male: The limits are by sex.
        bsa: Body surface area in m^2; with it the limits of the indexed volume are used.

    Returns:
        The zone; a value at a limit is normal. None where the value is NaN.

    Raises:
        InputError: If the measure has no zones, or `bsa` is no positive number.

    Source: Petersen et al., JCMR 19:18 (2017), 45 to 74 years, 1.5 T, papillary muscles counted
        with the cavity; limits as transcribed in a public clinical tool that cites it.
    """
    if measure not in CUTS:
        raise InputError(f"zone: measure must be one of {', '.join(CUTS)}, got {measure!r}")
    if bsa is not None and not 0 < bsa < float("inf"):
        raise InputError(f"zone: bsa must be a positive number of m^2, got {bsa!r}")
    if isnan(value):
        return None
    men, women = (CUTS if bsa is None else INDEXED)[measure]
    low, high = men if male else women
    held = value if bsa is None else value / bsa
    if held < low:
        return "low"
    return "high" if held > high else "normal"
