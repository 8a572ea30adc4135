"""Four made-up scanners, and what the strength of the main field does."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from robustbench_med.components import suggest
from robustbench_med.errors import InputError

FIELDS = (0.55, 1.5, 3.0)
REFERENCE_T = 1.5
SPREAD_HZ = 40.0


@dataclass(frozen=True)
class Vendor:
    """How one maker's cine protocol differs from another's.

    Attributes:
        tr_ms: Time from pulse to pulse.
        te_ms: Time from pulse to echo.
        flip_deg: Flip angle.
        slice_mm: Thickness of a slice.
        gap_mm: Between slices; their centres are `slice_mm + gap_mm` apart.
        snr: Blood's signal over the noise's standard deviation in each real channel of the
            image, at 1.5 T.
        bias: Strength of the receive field: half the span of its logarithm over the image.
        window: Share of k-space's edge that a Tukey window rolls off; 0 filters nothing.
        acquired: Share of the matrix that is measured, in each direction; the rest is filled
            with zeros, which rings at edges (Gibbs).
    """

    tr_ms: float
    te_ms: float
    flip_deg: float
    slice_mm: float
    gap_mm: float
    snr: float
    bias: float
    window: float
    acquired: float


VENDORS: Mapping[str, Vendor] = MappingProxyType({
    "A": Vendor(2.8, 1.2, 65, 8.0, 2.0, 30, 0.25, 0.25, 0.90),
    "B": Vendor(3.2, 1.6, 55, 8.0, 2.0, 25, 0.15, 0.10, 0.80),
    "C": Vendor(3.6, 1.6, 50, 8.0, 0.0, 22, 0.35, 0.00, 0.75),
    "D": Vendor(3.8, 1.9, 60, 10.0, 0.0, 20, 0.40, 0.40, 0.85),
})  # fmt: skip


def vendor(name: str) -> Vendor:
    """Return the protocol of scanner "A", "B", "C" or "D".

    The letters are those by which M&Ms tells four makers apart. The values are choices within
    the range of published cine protocols, made so that the four differ as four makers may. They
    are NOT validated models of anybody's scanner: what a network does on "C" says nothing of
    how it does on machines of one maker.

    Raises:
        InputError: If there is no such scanner.

    Source: the letters: Campello et al., IEEE TMI 40 (2021), DOI 10.1109/TMI.2021.3090082.
    """
    if name not in VENDORS:
        raise InputError(f"vendor: no {name!r}; {suggest(str(name), list(VENDORS))}")
    return VENDORS[name]


def off_resonance_hz(field_t: float) -> float:
    """Half the span of frequencies over a shimmed heart: 40 Hz at 1.5 T, proportional to field.

    Raises:
        InputError: If the field is none of `FIELDS`.

    Source: that it is proportional: susceptibility. The 40 Hz are chosen, near the spans of
    about 70 Hz at 1.5 T and 176 Hz at 3 T of Reeder et al., MRM 39 (1998), and Schaer et al.,
    MRM 51 (2004).
    """
    return SPREAD_HZ * _relative(field_t)


def signal_to_noise(scanner: Vendor, field_t: float) -> float:
    """The scanner's `snr` at a field: proportional to it, as polarisation and noise are.

    The signal's other dependence on field, by T1 and T2, is that of `bssfp`, and not in here.

    Raises:
        InputError: If the field is none of `FIELDS`.

    Source: Hoult and Lauterbur, J. Magn. Reson. 34 (1979): where the body is the noise.
    """
    return scanner.snr * _relative(field_t)


def _relative(field_t: float) -> float:
    if field_t not in FIELDS:
        raise InputError(f"field: must be one of {FIELDS} tesla, got {field_t!r}")
    return field_t / REFERENCE_T
