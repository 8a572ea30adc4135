"""A scan that was undersampled more than the model expects."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.shifts.requirements import (
    lines_of,
    require_count,
    require_kspace,
    require_strength,
)
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Acceleration:
    """Drop acquired phase-encode lines, so that fewer are left by a factor.

    A case with `n` acquired lines keeps `n / (1 + severity * factor_per_severity)` of them,
    rounded. The lines of k-space's centre stay; which of the others go is drawn for each case, and
    for each slice and phase that has a mask of its own. The draw is alike at every severity, so
    that what is left at a higher one is among what is left at a lower one. The k-space,
    `(b, 2c, *s)`, is zeroed there and the `mask` follows; the target and the noise of a sample
    stay.

    Attributes:
        factor_per_severity: What severity 1 adds to the undersampling factor.
        centre_lines: How many lines around the centre row stay: fewer where the block that was
            acquired without a gap is narrower.

    Source: Schlemper et al., IEEE TMI 37 (2018), section IV, for masks with a full centre.
    """

    factor_per_severity: float = 0.25
    centre_lines: int = 8

    def __post_init__(self) -> None:
        require_strength("acceleration: factor_per_severity", self.factor_per_severity)
        require_count("acceleration: centre_lines", self.centre_lines)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            CaseError: If the case is no k-space, or the centre lines alone are already more than
                what would be left.
        """
        if severity == 0:
            return batch
        mask = require_kspace("acceleration", batch, "an image has no lines to drop")
        lines = lines_of(mask)
        acquired = lines.flatten(0, 1)
        centre = centre_block(acquired, self.centre_lines)
        factor = 1 + severity * self.factor_per_severity
        left = (acquired.sum(dim=1) / factor).round()
        _require_room(batch, centre.sum(dim=1), left)
        # Not the probe's own stream, whose name holds the severity: the lines are to be nested.
        stream = CaseRng(rng.seed, "acceleration", rng.case_ids)
        turn = stream.uniform(*lines.shape[1:]).flatten(0, 1).to(acquired.device)
        turn = turn.where(~centre, -1.0).where(acquired, 2.0)
        rank = turn.argsort(dim=1, stable=True).argsort(dim=1)
        kept = (acquired & (rank < left.unsqueeze(1))).view(*mask.shape[:-1], 1)
        context = {**batch.context, "mask": batch.context["mask"].where(kept, 0)}
        return replace(batch, image=batch.image.where(kept, 0), context=context)


def _require_room(batch: Batch, centre: Tensor, left: Tensor) -> None:
    wrong = (left < centre.clamp(min=1)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        case = batch.case_ids[first * len(batch) // len(left)]
        raise CaseError(
            f"acceleration: case {case!r} would keep {int(left[first])} lines, fewer than the "
            f"{int(centre[first])} of its centre, which stay; lower the severity or centre_lines"
        )


def centre_block(acquired: Tensor, most: int) -> Tensor:
    """The acquired lines around the middle row without a gap, at most `most`; `(n, h)` bool."""
    middle = acquired.shape[1] // 2
    above = acquired[:, : middle + 1].flip(1).cumprod(dim=1).flip(1)
    below = acquired[:, middle:].cumprod(dim=1)
    offset = torch.arange(acquired.shape[1], device=acquired.device) - middle
    near = (offset >= -(most // 2)) & (offset < most - most // 2)
    return torch.cat([above, below[:, 1:]], dim=1).bool() & near
