"""A cine whose heartbeats were told apart wrongly: lines of one phase lie in another."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.requirements import (
    require_count,
    require_kspace,
    require_magnitudes,
)
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

Layout = Literal["patient", "slice"]


@dataclass(frozen=True)
class Mistrigger:
    """Take a share of each slice's lines from an earlier or a later phase of the heart.

    Phase-encode lines are the rows. A line that is drawn was measured in a heartbeat whose start
    was told wrongly, so it is off in all phases alike, by `phases` of them, earlier or later with
    equal chance; after the last phase comes the first. Slices are measured one after the other,
    each with draws of its own. Draws depend on the seed and the case: lines that are off at a
    lower severity are so at a higher one. Where the share is no whole number of lines, it is so on
    average. The target stays.

    k-space cases, which have a `mask` in the context: exact. Where a phase has lines of its own,
    only lines that were acquired in both phases can be taken; the rest stay. Magnitude images:
    lines are taken between the images' Fourier transforms and the magnitude is taken again, an
    approximation, because the phase that the scanner measured is gone.

    Attributes:
        share: Levels of the share of the lines that are off, at most 1.
        phases: By how many phases.
        layout: "patient": `*s` is (phases, d, h, w); "slice": it is (phases, h, w).

    Source: Oksuz et al., Med. Image Anal. 55 (2019), DOI 10.1016/j.media.2019.04.009, for lines
    swapped between the phases of a cine. Deviation: a line is off by the same in all phases.
    """

    share: Levels = (0.05, 0.1, 0.2, 0.3, 0.4)
    phases: int = 1
    layout: Layout = "patient"

    def __post_init__(self) -> None:
        require_levels("mistrigger: share", self.share)
        object.__setattr__(self, "share", tuple(self.share))
        if self.share[-1] > 1:
            raise InputError(f"mistrigger: share must be at most 1, got {self.share[-1]:g}")
        require_count("mistrigger: phases", self.phases)
        if self.layout not in get_args(Layout):
            raise InputError(
                f"mistrigger: layout must be one of {', '.join(get_args(Layout))}, "
                f"got {self.layout!r}"
            )

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If an image has negative intensities, or no line of a slice was acquired
                in both phases.
            UnsupportedError: If there is no axis of phases, or it is too short.
        """
        if severity == 0:
            return batch
        share = strength("mistrigger", self.share, severity)
        self._require_phases(batch)
        measured = "mask" in batch.context
        image = batch.image if measured else require_magnitudes("mistrigger", batch)
        lines = to_complex(image) if measured else fft2c(image)
        acquired = (
            require_kspace("mistrigger", batch, "")
            if measured
            else torch.ones_like(image[:, :1], dtype=torch.bool)
        )
        if self.layout == "slice":
            lines, acquired = lines.unsqueeze(3), acquired.unsqueeze(3)
        acquired = acquired.expand(-1, -1, *lines.shape[2:])
        mixed = self._mixed(batch, lines, acquired, share, rng)
        mixed = mixed.squeeze(3) if self.layout == "slice" else mixed
        back = to_channels(mixed) if measured else ifft2c(mixed).abs()
        return replace(batch, image=back.to(image))

    def _require_phases(self, batch: Batch) -> None:
        """Refuse a single phase, and phases so few that the others are none."""
        axes = {"patient": "(c, phases, d, h, w)", "slice": "(c, phases, h, w)"}[self.layout]
        shape = tuple(batch.image.shape[1:])
        if len(shape) != axes.count(",") + 1 or shape[1] <= self.phases:
            raise UnsupportedError(
                f"mistrigger: case {batch.case_ids[0]!r}: needs a cine, {axes}, of more than "
                f"{self.phases} phase{'s' * (self.phases > 1)}, got {shape}; take whole patients, "
                'or set layout = "slice" for one slice over time'
            )

    def _mixed(
        self, batch: Batch, lines: Tensor, acquired: Tensor, share: float, rng: CaseRng
    ) -> Tensor:
        """Complex `lines` `(b, c, p, d, h, w)` of which a share comes from other phases."""
        slices, rows = lines.shape[3:5]
        stream = CaseRng(rng.seed, "mistrigger", rng.case_ids)
        drawn = stream.uniform(slices, rows, 2).to(lines.device)
        part = stream.uniform(slices, 1).to(lines.device)
        order, later = drawn[..., 0], (drawn[..., 1] < 0.5)[:, None, None, :, :, None]

        def other(values: Tensor) -> Tensor:
            return values.roll(-self.phases, 2).where(later, values.roll(self.phases, 2))

        both = acquired & other(acquired)
        can = both.any(dim=-1).any(dim=2)[:, 0]
        stuck = (~can.any(dim=2).all(dim=1)).nonzero()
        if len(stuck):
            raise CaseError(
                f"mistrigger: case {batch.case_ids[int(stuck[0])]!r} has a slice without a line "
                "that was acquired in two phases; take k-space whose phases share lines"
            )
        count = (share * can.sum(dim=2, keepdim=True) + part).floor()
        # Lines that cannot be taken come last.
        rank = (order + 2.0 * ~can).argsort(dim=2).argsort(dim=2)
        off = (rank < count)[:, None, None, :, :, None]
        return other(lines).where(both & off, lines)
