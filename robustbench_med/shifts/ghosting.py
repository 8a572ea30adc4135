"""Copies of the patient along the phase-encode axis, as breathing and pulsing leave them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.lines import Along, as_rows, levels_up_to, order, require_along, weigh
from robustbench_med.shifts.requirements import require_count, require_plane
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Ghosting:
    """Weaken every n-th of the acquired phase-encode lines, by the same share.

    A weight of period n in k-space leaves n copies of the object in the image, evenly apart along
    the phase-encode axis: each of `intensity / n` of the object, where n divides the lines. Lines
    count in the order in which they are acquired, first row to last. n is drawn between `fewest`
    and `most`, and with it which lines are weakened; never the centre line, which holds the mean.
    Draws are alike at every severity. Target, mask and noise stay.

    k-space cases, which have a `mask` in the context: exact. Magnitude images: the lines of their
    own Fourier transform are weakened and the magnitude is taken again, an approximation, because
    the phase that the scanner measured is gone.

    Attributes:
        intensity: Share of a weakened line's signal that is lost; at most 1.
        fewest: Copies at the least, at least 2.
        most: Copies at the most; an image needs as many lines.
        centre_lines: How many lines around the centre stay as they are, at least 1.
        lines: What is a phase-encode line of an image, "rows" or "columns"; k-space has rows.

    Source: Wood and Henkelman, Med. Phys. 12 (1985), for ghosts of a periodic change; TorchIO's
    RandomGhosting (Perez-Garcia et al., CMPB 208, 2021) for weakening every n-th line. Deviation:
    which of n lines is drawn.
    """

    intensity: Levels = (0.2, 0.35, 0.5, 0.7, 0.95)
    fewest: int = 2
    most: int = 8
    centre_lines: int = 1
    lines: Along = "rows"

    def __post_init__(self) -> None:
        intensity = levels_up_to("ghosting: intensity", self.intensity, 1)
        object.__setattr__(self, "intensity", intensity)
        require_count("ghosting: fewest", self.fewest)
        require_count("ghosting: most", self.most)
        require_count("ghosting: centre_lines", self.centre_lines)
        if not 2 <= self.fewest <= self.most:
            raise InputError(
                f"ghosting: expected 2 <= fewest <= most, got {self.fewest} and {self.most}"
            )
        require_along("ghosting", self.lines)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        intensity = strength("ghosting", self.intensity, severity)
        if severity == 0:
            return batch
        # Not the probe's own stream, whose name holds the severity: only the intensity differs.
        drawn = CaseRng(rng.seed, "ghosting", rng.case_ids).uniform(2)
        ghosts = self.fewest + (drawn[:, 0] * (self.most - self.fewest + 1)).floor()
        return self.apply(
            batch,
            {
                "intensity": torch.full((len(batch),), intensity),
                "ghosts": ghosts,
                "start": drawn[:, 1],
            },
        )

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`.

        `intensity` is the share lost, `ghosts` how many copies, rounded, and `start` which lines:
        0 for those right after the centre line, towards 1 for those right before it.
        """
        del batch
        return {
            "intensity": (0.0, strength("ghosting", self.intensity, severity)),
            "ghosts": (float(self.fewest), float(self.most)),
            "start": (0.0, 1.0),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in `intensity`.

        Raises:
            CaseError: If an image has negative intensities.
            UnsupportedError: If there are fewer than two spatial axes, or fewer lines than `most`.
        """
        height = as_rows(require_plane("ghosting", batch), self._along(batch)).shape[-2]
        if height < self.most:
            raise UnsupportedError(
                f"ghosting: {self.most} copies need as many lines, case {batch.case_ids[0]!r} has "
                f"{height}; lower most"
            )
        values = (parameters[name] for name in ("intensity", "ghosts", "start"))
        intensity, ghosts, start = (value.view(-1, 1, 1) for value in values)
        # Of n lines the first is the centre's, which stays.
        every = ghosts.round()
        first = 1 + (start * (every - 1)).floor().clamp(max=every - 2)

        def weights(acquired: Tensor) -> Tensor:
            turn = order(acquired)
            hit = (turn - first.to(turn)) % every.to(turn) == 0
            offset = torch.arange(height, device=turn.device) - height // 2
            half = self.centre_lines // 2
            near = (offset >= -half) & (offset < self.centre_lines - half)
            return 1 - intensity.to(turn.device) * (hit & ~near)

        return weigh("ghosting", batch, self.lines, weights)

    def _along(self, batch: Batch) -> Along:
        return "rows" if "mask" in batch.context else self.lines
