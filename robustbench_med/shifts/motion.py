"""A patient who moves while k-space is filled."""

from dataclasses import dataclass, replace
from math import inf, pi

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import (
    lines_of,
    require_count,
    require_kspace,
    require_magnitudes,
    require_pixel_mm,
    require_plane,
    require_strength,
)
from robustbench_med.shifts.rigid import precise, rotate, translation
from robustbench_med.streams import CaseRng

MOST_DEGREES = 45
OF_AN_EVENT = ("moment", "mm", "direction", "degrees")


@dataclass(frozen=True)
class Motion:
    """Move the object rigidly, in plane, at random moments of the scan.

    Phase-encode lines are the rows, acquired from the first to the last. `events` moments, drawn
    uniformly among the acquired lines, part them into shots. Where the object lies in the shot
    with k-space's centre is its place: the target keeps it. In every other shot it lies
    `severity * mm_per_severity` away in a random direction, turned by
    `severity * degrees_per_severity` either way. Draws are alike at every severity; channels,
    slices and phases of a case move together, as in one scan.

    k-space cases, which have a `mask` in the context: translation only, as a phase of each sample,
    which is exact for one coil; with several, their sensitivities move along, an approximation.
    Turning needs samples that were not acquired: `degrees_per_severity` does nothing there.
    Magnitude images: lines come from the Fourier transforms of the image in its different places,
    and the magnitude is taken again: an approximation, because the phase that the scanner
    measured is gone. What moves out at one edge comes back in at the other.

    Attributes:
        mm_per_severity: Distance from the object's place at severity 1, in mm.
        degrees_per_severity: Rotation at severity 1, in degrees; 0 or more, 0 for none.
        events: How many times the object moves during the scan, at least 1.

    Source: Zaitsev et al., JMRI 42 (2015), for the model; TorchIO's RandomMotion (Perez-Garcia et
    al., CMPB 208, 2021) for keeping the centre of k-space in place.
    """

    mm_per_severity: float = 1.0
    degrees_per_severity: float = 1.0
    events: int = 2

    def __post_init__(self) -> None:
        require_strength("motion: mm_per_severity", self.mm_per_severity)
        require_count("motion: events", self.events)
        turn: object = self.degrees_per_severity
        if isinstance(turn, bool) or not isinstance(turn, (int, float)) or not 0 <= turn < inf:
            raise InputError(
                f"motion: degrees_per_severity must be finite and at least 0, got {turn!r}"
            )

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If an image would turn by more than 45 degrees.
            CaseError: If the context has no `spacing`, a plane has fewer than two acquired
                lines, or an image has negative intensities.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        if severity == 0:
            return batch
        self._require_small_turns(batch, severity)
        moves = self._draw(severity, rng)
        return self.apply(batch, dict(zip(self._names(), moves.flatten(1).unbind(1), strict=True)))

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`; of each event, counted from 0.

        `moment_0` is a share of the acquired lines, `mm_0` and `degrees_0` how far the object
        moves and turns, `direction_0` whither, in turns from columns towards rows. A draw has the
        largest `mm` and `degrees`.
        """
        self._require_small_turns(batch, severity)
        turn = 0.0 if "mask" in batch.context else severity * self.degrees_per_severity
        limits = ((0.0, 1.0), (0.0, severity * self.mm_per_severity), (0.0, 1.0), (-turn, turn))
        return dict(zip(self._names(), limits * self.events, strict=True))

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in all but the moments.

        Raises:
            CaseError: As for a call.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        image = require_plane("motion", batch)
        pixel_mm = require_pixel_mm("motion", batch)
        moves = torch.stack([parameters[name] for name in self._names()], dim=1)
        moves = moves.view(-1, self.events, len(OF_AN_EVENT))
        if "mask" in batch.context:
            mask = require_kspace("motion", batch, "")
            lines = lines_of(mask).cpu()
            shot, place = self._places(batch, lines, moves)
            planes = lines.shape[1]
            ramp = _ramp(shot, place, pixel_mm.repeat_interleave(planes, 0), image)
            moved = to_complex(image) * ramp.view(mask.shape)
            return replace(batch, image=to_channels(moved).to(image))
        require_magnitudes("motion", batch)
        every = torch.ones(len(batch), 1, image.shape[-2], dtype=torch.bool)
        shot, place = self._places(batch, every, moves)
        like = (len(batch), *[1] * (image.ndim - 3))
        kspace = fft2c(image)
        for number in range(self.events + 1):
            turned = fft2c(rotate(image, place[:, number, 2], pixel_mm))
            here = (shot == number).view(*like, -1, 1).to(image.device)
            kspace = turned.where(here, kspace)
        ramp = _ramp(shot, place, pixel_mm, image).view(*like, *image.shape[-2:])
        return replace(batch, image=ifft2c(kspace * ramp).abs())

    def _names(self) -> list[str]:
        return [f"{name}_{event}" for event in range(self.events) for name in OF_AN_EVENT]

    def _draw(self, severity: float, rng: CaseRng) -> Tensor:
        """Moment, mm, direction and degrees of each event, `(b, events, 4)`."""
        # Not the probe's own stream, whose name holds the severity: only the size is to differ.
        drawn = CaseRng(rng.seed, "motion", rng.case_ids).uniform(self.events, 3)
        moment, direction, side = drawn.unbind(dim=2)
        far, turn = severity * self.mm_per_severity, severity * self.degrees_per_severity
        sign = (side < 0.5) * 2 - 1
        return torch.stack([moment, torch.full_like(moment, far), direction, turn * sign], dim=2)

    def _require_small_turns(self, batch: Batch, severity: float) -> None:
        if "mask" in batch.context:
            return
        degrees = severity * self.degrees_per_severity
        if degrees > MOST_DEGREES:
            raise InputError(
                f"motion: turns an image by at most {MOST_DEGREES} degrees, got {degrees:g} "
                f"at severity {severity:g}; lower one of the two"
            )

    def _places(self, batch: Batch, lines: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Shot of each row, `(n, h)`, and by shot `(n, shots, 3)`: y, x in mm, angle in radians.

        `n` counts the planes that have lines of their own, `(b, planes, h)`, case by case; those
        of a case share the moves, `(b, events, 4)`.
        """
        planes, acquired = lines.shape[1], lines.flatten(0, 1)
        count = acquired.sum(dim=1)
        still = (count < 2).nonzero()
        if len(still):
            case = batch.case_ids[int(still[0]) // planes]
            raise CaseError(
                f"motion: case {case!r} has a plane with fewer than two acquired lines: "
                "nothing can move in it"
            )
        moment, mm, direction, degrees = moves.repeat_interleave(planes, 0).unbind(dim=2)
        start = 1 + (moment * (count - 1).unsqueeze(1)).floor()
        rank = acquired.cumsum(dim=1) - 1
        shot = (rank.unsqueeze(2) >= start.unsqueeze(1)).sum(dim=2)
        distance = (torch.arange(acquired.shape[1]) - acquired.shape[1] // 2).abs()
        middle = distance.where(acquired, acquired.shape[1]).argmin(dim=1, keepdim=True)
        centre = shot.gather(1, middle)
        angle = 2 * pi * direction
        moved = torch.stack([mm * angle.sin(), mm * angle.cos(), degrees * pi / 180], dim=2)
        number = torch.arange(self.events + 1)
        taken = (number - (number > centre).long()).clamp(max=self.events - 1)
        place = moved.gather(1, taken.unsqueeze(2).expand(-1, -1, 3))
        return shot, place.where((number != centre).unsqueeze(2), 0)


def _ramp(shot: Tensor, place: Tensor, pixel_mm: Tensor, image: Tensor) -> Tensor:
    """Phase of each sample, `(n, h, w)`, from where the object lies in its row's shot."""
    offset_mm = place[..., :2].gather(1, shot.unsqueeze(2).expand(-1, -1, 2))
    return precise(translation(offset_mm, pixel_mm, image.shape[-1]), image)
