"""A scan that left out one end of the phase-encode lines."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.lines import Along, levels_up_to, require_along, weigh
from robustbench_med.shifts.requirements import require_kspace, require_samples
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng

MOST = 0.5


@dataclass(frozen=True)
class PartialFourier:
    """Leave the first or the last phase-encode lines out and fill them with zeros.

    At a `missing` of 0.25 the scan acquires 6/8 of k-space's lines; of `h` lines `missing * h`,
    rounded, are left out. At which end is drawn for each case, alike at every severity. Nothing is
    made up for them by symmetry. The target and the noise of a sample stay.

    k-space cases, which have a `mask` in the context: samples left out become 0 and the mask
    follows; exact. Magnitude images: the lines of their own Fourier transform are left out and the
    magnitude is taken again, an approximation, because the phase that the scanner measured is
    gone: such an image has a symmetric k-space, which loses less than a measured one.

    Attributes:
        missing: Share of k-space's lines that is left out; below 0.5, so that the centre stays.
        lines: What is a phase-encode line of an image, "rows" or "columns"; k-space has rows.

    Source: McGibney et al., MRM 30 (1993), for partial Fourier with zeros in place of what is not
    acquired.
    """

    missing: Levels = (0.08, 0.16, 0.24, 0.32, 0.4)
    lines: Along = "rows"

    def __post_init__(self) -> None:
        missing = levels_up_to("partial_fourier: missing", self.missing)
        if missing[-1] >= MOST:
            raise InputError(
                f"partial_fourier: missing must be below {MOST}, so that k-space's centre stays, "
                f"got {missing[-1]:g}"
            )
        object.__setattr__(self, "missing", missing)
        require_along("partial_fourier", self.lines)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        missing = strength("partial_fourier", self.missing, severity)
        if severity == 0:
            return batch
        # Not the probe's own stream, whose name holds the severity: lines are to be nested.
        stream = CaseRng(rng.seed, "partial_fourier", rng.case_ids)
        side = (stream.uniform() < 0.5).float() * 2 - 1
        return self.apply(batch, {"missing": missing * side})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `missing`, a share of the lines: the first below 0, else the last."""
        del batch
        most = strength("partial_fourier", self.missing, severity)
        return {"missing": (-most, most)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; in steps, a line at a time, so without a slope.

        Raises:
            CaseError: If an image has negative intensities, or no acquired sample is left.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        missing = parameters["missing"].double()

        def weights(acquired: Tensor) -> Tensor:
            kept = _kept(missing, acquired.shape[2]).to(acquired.device)
            return kept.unsqueeze(1).expand_as(acquired)

        shifted = weigh("partial_fourier", batch, self.lines, weights)
        if "mask" not in batch.context:
            return shifted
        mask = batch.context["mask"]
        kept = _kept(missing, mask.shape[-2]).to(mask.device)
        kept = kept.view(-1, *[1] * (mask.ndim - 3), mask.shape[-2], 1)
        left = require_kspace("partial_fourier", batch, "") & kept
        require_samples("partial_fourier", batch, left, "all were left out; lower the severity")
        return replace(shifted, context={**batch.context, "mask": mask.where(kept, 0)})


def _kept(missing: Tensor, height: int) -> Tensor:
    """Which lines are acquired, `(b, height)`, bool."""
    line = torch.arange(height, device=missing.device)
    count = (missing * height).round().unsqueeze(1)
    return (line >= -count) & (line < height - count)
