"""How bright a tissue is: the steady state of a balanced sequence (bSSFP)."""

import math

import torch
from torch import Tensor

from robustbench_med.errors import InputError

Values = Tensor | float
TINY_MS = 1e-6  # instead of 0, by which nothing can be divided


def bssfp(  # noqa: PLR0913 (three facts of the tissue, three of the sequence, one of the field)
    t1_ms: Values,
    t2_ms: Values,
    density: Values,
    *,
    flip_deg: Values,
    tr_ms: float,
    te_ms: float,
    off_resonance_hz: Values = 0.0,
) -> Tensor:
    """Transverse magnetisation at the echo, in the steady state, of a balanced sequence.

    Tensors are maps or lists and broadcast against each other. Pulses alternate in sign, so the
    signal is largest near resonance and nearly vanishes at plus and minus 1 / (2 TR). The receiver
    follows the pulses: on resonance the signal is real and positive. Off resonance by `f`, phase
    grows between pulses as `exp(2 pi i f t)`.

    Args:
        t1_ms: Longitudinal relaxation time; 0 where there is nothing.
        t2_ms: Transverse relaxation time.
        density: Proton density; the signal is proportional to it.
        flip_deg: Flip angle.
        tr_ms: Time from pulse to pulse.
        te_ms: Time from pulse to echo.
        off_resonance_hz: By how much the local field's frequency is above the scanner's.

    Returns:
        Complex signal, of the shape the arguments broadcast to.

    Raises:
        InputError: If a relaxation time or the density is negative or no number, or the echo
            does not lie within the repetition time.

    Source: Freeman and Hill, J. Magn. Reson. 4 (1971); Scheffler and Lehnhardt, Eur. Radiol. 13
    (2003), DOI 10.1007/s00330-003-1957-x.
    """
    if not 0 <= te_ms <= tr_ms or not 0 < tr_ms < math.inf:
        raise InputError(f"bssfp: expected 0 <= te_ms <= tr_ms, got TE {te_ms} and TR {tr_ms}")
    t1, t2 = (_at_least(TINY_MS, "time", value) for value in (t1_ms, t2_ms))
    per_ms = _tensor(off_resonance_hz) / 1000
    # A sign that alternates is half a turn more between pulses.
    turn = math.pi + 2 * math.pi * per_ms * tr_ms
    lost, e2, cos = -torch.expm1(-tr_ms / t1), torch.exp(-tr_ms / t2), turn.cos()
    flip = torch.deg2rad(_tensor(flip_deg))
    e1, cos_flip = 1 - lost, flip.cos()
    after_pulse = flip.sin() * lost * (1 - e2 * torch.exp(-1j * turn))
    scale = (1 - e1 * cos_flip) * (1 - e2 * cos) - e2 * (e1 - cos_flip) * (e2 - cos)
    until_echo = torch.exp(-te_ms / t2) * torch.exp(2j * math.pi * per_ms * te_ms)
    return _at_least(0.0, "density", density) * after_pulse / scale * until_echo


def optimal_flip_deg(t1_ms: float, t2_ms: float) -> float:
    """Flip angle of the strongest on-resonance signal, where TR is far below T2.

    Raises:
        InputError: Unless 0 < T2 <= T1.

    Source: Scheffler and Lehnhardt, Eur. Radiol. 13 (2003), DOI 10.1007/s00330-003-1957-x.
    """
    if not 0 < t2_ms <= t1_ms:
        raise InputError(f"optimal flip angle: expected 0 < T2 <= T1, got {t2_ms} and {t1_ms}")
    return math.degrees(math.acos((t1_ms / t2_ms - 1) / (t1_ms / t2_ms + 1)))


def _at_least(least: float, name: str, value: Values) -> Tensor:
    """The value with all between 0 and `least` raised to it; refused if any is below 0 or NaN."""
    values = _tensor(value)
    if not bool((values >= 0).all()):
        raise InputError(f"bssfp: each {name} must be at least 0, got {float(values.min()):g}")
    return values.clamp(min=least)


def _tensor(value: Values) -> Tensor:
    # A number as a double does not widen the maps that it meets.
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
