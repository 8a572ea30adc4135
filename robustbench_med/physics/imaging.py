"""From tissue to signal: a slice's complex image, and what the coils measure of it."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from robustbench_med.physics.coils import sensitivities
from robustbench_med.physics.fields import SmoothField, smooth_field
from robustbench_med.physics.fourier import fft2c
from robustbench_med.physics.patient import Patient, stream
from robustbench_med.physics.rendering import TISSUES, Grid, Slab
from robustbench_med.physics.scanner import Vendor, off_resonance_hz, signal_to_noise, vendor
from robustbench_med.physics.signal import bssfp
from robustbench_med.physics.tissues import tissue

# Standard deviation of each tissue's brightness over its volume, relative to its mean: chosen.
TEXTURE = {"blood": 0.05, "myocardium": 0.09, "muscle": 0.12, "fat": 0.10, "liver": 0.12,
           "spleen": 0.10, "lung": 0.5, "bone": 0.3}  # fmt: skip
HZ_NODES = 65
PHASE_RAD = 0.7


@dataclass(frozen=True)
class Scan:
    """A patient in a scanner: what all of the patient's images share.

    Attributes:
        patient: Who.
    """

    patient: Patient

    @cached_property
    def scanner(self) -> Vendor:
        """Protocol of the patient's scanner."""
        return vendor(self.patient.vendor)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of each real channel of an image with uniform reception."""
        blood = self._signals[TISSUES.index("blood"), HZ_NODES // 2].abs()
        return float(blood) / signal_to_noise(self.scanner, self.patient.field_t)

    def image(self, shares: Tensor, slab: Slab, grid: Grid) -> Tensor:
        """Complex image of the tissue `shares` `(tissue, h, w)`, without noise, `(h, w)`."""
        y, x = grid.axes_mm()
        fields = self._fields
        span = off_resonance_hz(self.patient.field_t)
        offset = fields["off_resonance"](slab.z_mm, y, x).mul(0.5 * span).clamp(-span, span)
        fine, coarse = (fields[name](slab.z_mm, y, x) for name in ("fine", "coarse"))
        texture = 0.7 * fine + 0.7 * coarse
        strength = torch.tensor([TEXTURE[name] for name in TISSUES])[:, None, None]
        bright = shares * (1 + strength * texture).clamp(min=0)
        signal = (bright * self._at(offset, span)).sum(dim=0)
        reception = (self.scanner.bias * fields["bias"](slab.z_mm, y, x)).exp()
        phase = PHASE_RAD * fields["phase"](slab.z_mm, y, x)
        return signal * torch.polar(reception, phase)

    def _at(self, offset: Tensor, span: float) -> Tensor:
        """Signals of all tissues at each pixel's off-resonance, `(tissue, h, w)`."""
        place = (offset / span + 1) * ((HZ_NODES - 1) / 2)
        below = place.long().clamp(max=HZ_NODES - 2)
        share = place - below
        return self._signals[:, below] * (1 - share) + self._signals[:, below + 1] * share

    @cached_property
    def _signals(self) -> Tensor:
        """Signal by tissue and off-resonance, complex64, `(tissue, node)`."""
        span = off_resonance_hz(self.patient.field_t)
        return _signals(self.patient.vendor, self.patient.field_t, span)

    @cached_property
    def _fields(self) -> dict[str, SmoothField]:
        lengths = {"fine": (4.0, 15.0), "coarse": (15.0, 50.0), "off_resonance": (100.0, 300.0),
                   "bias": (200.0, 400.0), "phase": (120.0, 400.0)}  # fmt: skip
        return {
            name: smooth_field(stream(self.patient.seed, name), span)
            for name, span in lengths.items()
        }


@lru_cache(maxsize=64)
def _signals(name: str, field_t: float, span: float) -> Tensor:
    protocol = vendor(name)
    known = [tissue(each, field_t) for each in TISSUES]
    t1, t2, density = (
        torch.tensor([getattr(each, fact) for each in known])[:, None]
        for fact in ("t1_ms", "t2_ms", "density")
    )
    signals = bssfp(
        t1, t2, density, flip_deg=protocol.flip_deg, tr_ms=protocol.tr_ms, te_ms=protocol.te_ms,
        off_resonance_hz=torch.linspace(-span, span, HZ_NODES),
    )  # fmt: skip
    return signals.to(torch.complex64)


def measure_kspace(
    image: Tensor, maps: Tensor | None, noise: float, generator: torch.Generator
) -> Tensor:
    """K-space of every coil, fully sampled, with noise: complex `(coils, h, w)`.

    Args:
        image: Complex, `(h, w)`.
        maps: Sensitivities `(coils, h, w)`; None for one coil of sensitivity 1.
        noise: Standard deviation of each real channel; the Fourier transform keeps it.
        generator: Of the noise.
    """
    seen = fft2c(image[None] if maps is None else maps * image)
    return seen + torch.view_as_complex(noise * torch.randn(*seen.shape, 2, generator=generator))


@lru_cache(maxsize=8)
def coil_maps(coils: int, grid: Grid) -> Tensor:
    """Sensitivities `(coils, h, w)`; the same for all patients, so made once a process."""
    return sensitivities(coils, (grid.height, grid.width), grid.pixel_mm)
