"""Levels of a shift at which images lose equally much, measured on a cohort's own images."""

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, get_type_hints

import numpy as np
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.metrics.ssim import Ssim
from robustbench_med.physics.fourier import ifft2c, to_complex
from robustbench_med.probes import MOST_SEVERITY, Shift
from robustbench_med.shifts.severity import Levels
from robustbench_med.streams import CaseRng

TARGETS = (0.05, 0.1, 0.2, 0.3, 0.4)
"""What severity 1, 2, 3, 4 and 5 are to lose: 1 - SSIM, the mean over cases."""
FACTORS = tuple(2.0 ** (step / 2) for step in range(-16, 11))
DIGITS = 2
_Settings = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Measured:
    """What a shift costs images.

    Attributes:
        now: `(6,)`, the loss at severity 0 to 5, with the levels that the shift has.
        curve: `(n, 2)`: factor of the levels at severity 5, and the loss there. It ends where the
            shift cannot be stronger.
        levels: By setting, five numbers in its unit at which the shift loses `TARGETS`, of
            two digits; where a target is out of reach, those of the largest loss.
        reached: `(5,)`, the loss at these levels.
    """

    now: tuple[float, ...]
    curve: tuple[tuple[float, float], ...]
    levels: _Settings
    reached: tuple[float, ...]


def measure(shift: Shift, batches: Sequence[Batch], seed: int = 0) -> Measured:
    """Measure what a shift costs images, and find levels at which it costs what all shall cost.

    All levels of a shift are scaled together, in the proportions that they have at severity 5.
    Its draws are the same at every strength. The loss is taken as growing with the strength; where
    it does not, the first strength that loses enough counts.

    Args:
        shift: With settings that are levels.
        batches: Images or k-space.
        seed: Of what the shift draws.

    Raises:
        InputError: If the shift has no such settings.
        CaseError: If it cannot be applied to these cases.
        UnsupportedError: The same.
    """
    top = {name: levels[-1] for name, levels in _levels_of(shift).items()}
    now = tuple(_loss(shift, batches, float(v), seed) for v in range(MOST_SEVERITY + 1))
    curve = _curve(shift, top, batches, seed)
    factors = [_first(curve, target) for target in TARGETS]
    levels = {name: tuple(_round(most * f) for f in factors) for name, most in top.items()}
    found = _with(shift, levels)
    reached = tuple(_loss(found, batches, float(v), seed) for v in range(1, MOST_SEVERITY + 1))
    return Measured(now, tuple(curve), levels, reached)


def visible(batch: Batch) -> torch.Tensor:
    """What there is to look at, `(b, c, *s)`: images, or the magnitude of measured k-space."""
    if "mask" not in batch.context:
        return batch.image
    coils = ifft2c(to_complex(batch.image)).abs()
    return coils.square().sum(dim=1, keepdim=True).sqrt()


def _loss(shift: Shift, batches: Sequence[Batch], severity: float, seed: int) -> float:
    lost = []
    for batch in batches:
        rng = CaseRng(seed, "levels", batch.case_ids)
        before, after = visible(batch), visible(shift(batch, severity, rng))
        # Two channels would be read as one complex image.
        likeness = Ssim()(after[:, None], before[:, None])
        lost.append(1 - likeness[likeness.isfinite()])
    return float(torch.cat(lost).mean())


def _levels_of(shift: Any) -> _Settings:  # noqa: ANN401 (any dataclass)
    hints = get_type_hints(type(shift)) if is_dataclass(shift) else {}
    found = {name: tuple(getattr(shift, name)) for name in hints if hints[name] == Levels}
    if not found:
        raise InputError(
            f"levels: {type(shift).__name__} has no setting of five levels; ask for its parts"
        )
    return found


def _with(shift: Any, levels: _Settings) -> Shift:  # noqa: ANN401 (a dataclass)
    made: Shift = replace(shift, **levels)
    return made


def _curve(
    shift: Shift, top: dict[str, float], batches: Sequence[Batch], seed: int
) -> list[tuple[float, float]]:
    curve: list[tuple[float, float]] = []
    for factor in FACTORS:
        flat = {name: (most * factor,) * MOST_SEVERITY for name, most in top.items()}
        try:
            curve.append((factor, _loss(_with(shift, flat), batches, float(MOST_SEVERITY), seed)))
        except (InputError, CaseError, UnsupportedError):
            if factor >= 1 and curve:  # it cannot be that strong
                break
            raise
        if curve[-1][1] > 1.5 * TARGETS[-1]:
            break
    return curve


def _first(curve: Sequence[tuple[float, float]], target: float) -> float:
    """The smallest factor that loses as much, in a straight line between two; or the strongest."""
    factors, losses = map(np.array, zip(*curve, strict=True))
    most = np.maximum.accumulate(losses)
    if most[-1] < target:
        return float(factors[int(losses.argmax())])
    return float(np.interp(target, [0.0, *most], [0.0, *factors]))


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
