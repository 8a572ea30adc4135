"""Lines read forwards and backwards by gradients that come late."""

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.searching import Parameters
from robustbench_med.shifts.lines import Along, as_rows, levels_up_to, order, require_along
from robustbench_med.shifts.requirements import (
    lines_of,
    require_kspace,
    require_magnitudes,
    require_plane,
)
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class ShiftedLines:
    """Displace acquired lines along the readout, every other one the other way.

    Where lines are read forwards and backwards in turn, as in echo-planar imaging, a gradient that
    comes late moves them apart: even lines, counted from the centre's in the order of acquisition,
    by half of `delay`, odd ones by half of it the other way. In the image the object fades towards
    the ends of the readout axis, and a ghost of it rises there, half a field of view away. Samples
    that leave at one end of a line come in at the other. The sign is drawn for each case, alike at
    every severity. Target, mask and noise stay.

    k-space cases, which have a `mask` in the context: exact where whole lines were acquired;
    elsewhere what moves out of the acquired samples is lost. Magnitude images: the lines of their
    own Fourier transform are displaced and the magnitude is taken again, an approximation, because
    the phase that the scanner measured is gone.

    Attributes:
        delay: Distance of odd from even lines, in samples of the readout.
        lines: What is a phase-encode line of an image, "rows" or "columns"; k-space has rows.

    Source: Bruder et al., MRM 23 (1992), for the ghost of a delay between echoes.
    """

    delay: Levels = (0.15, 0.3, 0.5, 0.75, 1.0)
    lines: Along = "rows"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay", levels_up_to("shifted_lines: delay", self.delay))
        require_along("shifted_lines", self.lines)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        delay = strength("shifted_lines", self.delay, severity)
        if severity == 0:
            return batch
        # Not the probe's own stream, whose name holds the severity: only the size is to differ.
        side = (CaseRng(rng.seed, "shifted_lines", rng.case_ids).uniform() < 0.5).float() * 2 - 1
        return self.apply(batch, {"delay": delay * side})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `delay`, in samples, above 0 if even lines move up the readout."""
        del batch
        most = strength("shifted_lines", self.delay, severity)
        return {"delay": (-most, most)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in the delay.

        Raises:
            CaseError: If an image has negative intensities.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        image = require_plane("shifted_lines", batch)
        if "mask" in batch.context:
            return replace(batch, image=_in_kspace(batch, parameters["delay"]))
        require_magnitudes("shifted_lines", batch)
        image = as_rows(image, self.lines)
        turn = _turn(parameters["delay"], image.shape[-1]).to(image)
        turn = turn.view(-1, *[1] * (image.ndim - 2), image.shape[-1])
        # exp(+-i turn) is cos(turn) for all lines, and i sin(turn) with the sign of the line.
        every = torch.ones(image.shape[-2], dtype=torch.bool, device=image.device)
        sign = torch.fft.ifftshift(_sign(every)).to(image).unsqueeze(1)
        ghost = torch.fft.ifft(torch.fft.fft(image, dim=-2) * sign, dim=-2)
        real = turn.cos() * image - turn.sin() * ghost.imag
        imaginary = turn.sin() * ghost.real
        return replace(batch, image=as_rows(torch.complex(real, imaginary).abs(), self.lines))


def _in_kspace(batch: Batch, delay: Tensor) -> Tensor:
    acquired = require_kspace("shifted_lines", batch, "")
    lines = lines_of(acquired)
    image = batch.image
    turn = _turn(delay, image.shape[-1]).to(image).view(-1, 1, 1, image.shape[-1])
    turn = (turn * _sign(lines).unsqueeze(3).to(image)).view(*acquired.shape[:-1], -1)
    # Centred on the middle column before and after, so that the turn has its 0 there.
    hybrid = torch.fft.ifft(torch.fft.ifftshift(to_complex(image), dim=-1), dim=-1)
    ramp = torch.fft.ifftshift(torch.polar(torch.ones_like(turn), turn), dim=-1)
    moved = torch.fft.fftshift(torch.fft.fft(hybrid * ramp, dim=-1), dim=-1)
    return to_channels(moved).where(acquired, 0)


def _turn(delay: Tensor, width: int) -> Tensor:
    """Phase of each column of an even line, `(b, width)`, radians."""
    column = torch.arange(width, dtype=torch.float64, device=delay.device) - width // 2
    return pi * delay.double().unsqueeze(1) * column / width


def _sign(acquired: Tensor) -> Tensor:
    """1 for even and -1 for odd lines, `(..., h)`."""
    return 1 - 2 * (order(acquired) % 2)
