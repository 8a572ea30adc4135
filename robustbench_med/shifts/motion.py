"""A patient who moves while k-space is filled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

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
)
from robustbench_med.shifts.rigid import rotate
from robustbench_med.shifts.severity import (
    Levels,
    require_levels,
    require_levels_or_zeros,
    strength,
)
from robustbench_med.shifts.shots import places, ramp
from robustbench_med.streams import CaseRng

MOST_DEGREES = 45
OF_AN_EVENT = ("moment", "mm", "direction", "degrees")
Axis = Literal["rows", "columns"]


@dataclass(frozen=True)
class Motion:
    """Move the object rigidly, in plane, at random moments of the scan.

    Phase-encode lines are acquired from the first to the last. `events` moments, drawn uniformly
    among the acquired lines unless `times` says when, part them into shots. Where the object lies
    in the shot with k-space's centre is its place: the target keeps it. In every other shot it
    lies `mm` away in a random direction, turned by `degrees` either way. Draws are alike at every
    severity; channels, slices and phases of a case move together, as in one scan.

    k-space cases, which have a `mask` in the context: translation only, as a phase of each sample,
    which is exact for one coil; with several, their sensitivities move along, an approximation.
    Turning needs samples that were not acquired: `degrees` does nothing there.
    Magnitude images: lines come from the Fourier transforms of the image in its different places,
    and the magnitude is taken again: an approximation, because the phase that the scanner
    measured is gone. What moves out at one edge comes back in at the other.

    Attributes:
        mm: Distance from the object's place.
        degrees: Rotation, in degrees, at most 45 of an image; five zeros for none.
        events: How many times the object moves during the scan, at least 1.
        times: When it does, shares of the acquired lines, from 0 to below 1, as many as `events`;
            None to draw them.
        axis: Which lines of k-space are acquired one after the other, for magnitude images: "rows"
            or "columns". The lines of k-space cases are its rows.

    Source: Zaitsev et al., JMRI 42 (2015), for the model; TorchIO's RandomMotion (Perez-Garcia et
    al., CMPB 208, 2021) for keeping the centre of k-space in place.
    """

    mm: Levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    degrees: Levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    events: int = 2
    times: Sequence[float] | None = None
    axis: Axis = "rows"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mm", require_levels("motion: mm", self.mm))
        degrees = require_levels_or_zeros("motion: degrees", self.degrees)
        object.__setattr__(self, "degrees", degrees)
        require_count("motion: events", self.events)
        if self.times is not None:
            object.__setattr__(self, "times", _moments(self.times, self.events))
        if self.axis not in get_args(Axis):
            raise InputError(f"motion: axis must be rows or columns, got {self.axis!r}")

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5, or an image would turn by more than 45
                degrees.
            CaseError: If the context has no `spacing`, a plane has fewer than two acquired
                lines, an image has negative intensities, or k-space is to be acquired by columns.
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
        largest `mm` and `degrees`. Moments that `times` names stay.

        Raises:
            InputError: If the severity is outside 0 to 5, or an image would turn by more than 45
                degrees.
        """
        self._require_small_turns(batch, severity)
        far = strength("motion", self.mm, severity)
        turn = 0.0 if "mask" in batch.context else strength("motion", self.degrees, severity)
        when = [(time, time) for time in self.times or ()] or [(0.0, 1.0)] * self.events
        limits = [
            each for moment in when for each in (moment, (0.0, far), (0.0, 1.0), (-turn, turn))
        ]
        return dict(zip(self._names(), limits, strict=True))

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in all but the moments.

        Raises:
            CaseError: As for a call.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        require_plane("motion", batch)
        pixel_mm = require_pixel_mm("motion", batch)
        moves = torch.stack([parameters[name] for name in self._names()], dim=1)
        moves = moves.view(-1, self.events, len(OF_AN_EVENT))
        if "mask" not in batch.context:
            return self._of_images(batch, moves, pixel_mm)
        if self.axis == "columns":
            raise CaseError(
                f"motion: case {batch.case_ids[0]!r} is k-space, whose lines are its rows, got "
                'axis = "columns"; leave axis out, or use magnitude images'
            )
        return _of_kspace(batch, moves, pixel_mm)

    def _of_images(self, batch: Batch, moves: Tensor, pixel_mm: Tensor) -> Batch:
        image, columns = require_magnitudes("motion", batch), self.axis == "columns"
        like = (len(batch), *[1] * (image.ndim - 3))
        every = torch.ones(len(batch), 1, image.shape[-1 if columns else -2], dtype=torch.bool)
        shot, place = places("motion", batch, every, moves)
        kspace = fft2c(image)
        for number in range(self.events + 1):
            turned = fft2c(rotate(image, place[:, number, 2], pixel_mm))
            here = (shot == number).view(*like, -1, 1).to(image.device)
            kspace = turned.where(here.mT if columns else here, kspace)
        if columns:
            phase = ramp(shot, place[..., [1, 0]], pixel_mm.flip(1), image.mT).mT
        else:
            phase = ramp(shot, place, pixel_mm, image)
        moved = ifft2c(kspace * phase.reshape(*like, *image.shape[-2:])).abs()
        return replace(batch, image=moved)

    def _names(self) -> list[str]:
        return [f"{name}_{event}" for event in range(self.events) for name in OF_AN_EVENT]

    def _draw(self, severity: float, rng: CaseRng) -> Tensor:
        """Moment, mm, direction and degrees of each event, `(b, events, 4)`."""
        # Not the probe's own stream, whose name holds the severity: only the size is to differ.
        drawn = CaseRng(rng.seed, "motion", rng.case_ids).uniform(self.events, 3)
        moment, direction, side = drawn.unbind(dim=2)
        if self.times is not None:
            moment = torch.tensor(self.times).expand_as(moment)
        far = torch.full_like(moment, strength("motion", self.mm, severity))
        turn = strength("motion", self.degrees, severity) * ((side < 0.5) * 2 - 1)
        return torch.stack([moment, far, direction, turn], dim=2)

    def _require_small_turns(self, batch: Batch, severity: float) -> None:
        degrees = strength("motion", self.degrees, severity)
        if degrees > MOST_DEGREES and "mask" not in batch.context:
            raise InputError(
                f"motion: turns an image by at most {MOST_DEGREES} degrees, got {degrees:g} "
                f"at severity {severity:g}; lower one of the two"
            )


def _of_kspace(batch: Batch, moves: Tensor, pixel_mm: Tensor) -> Batch:
    mask = require_kspace("motion", batch, "")
    lines = lines_of(mask).cpu()
    shot, place = places("motion", batch, lines, moves)
    phase = ramp(shot, place, pixel_mm.repeat_interleave(lines.shape[1], 0), batch.image)
    moved = to_complex(batch.image) * phase.view(mask.shape)
    return replace(batch, image=to_channels(moved).to(batch.image))


def _moments(times: object, events: int) -> tuple[float, ...]:
    """Shares of the lines as a tuple, one for each event; `InputError` if they are none."""
    given = tuple(times) if isinstance(times, (list, tuple)) else ()
    good = all(type(time) in (int, float) and 0 <= time < 1 for time in given)
    if not good or len(given) != events:
        raise InputError(
            f"motion: times must be as many numbers as events, {events}, each from 0 to below 1, "
            f"got {times!r}"
        )
    return tuple(float(time) for time in given)
