"""A scan that was undersampled more than the model expects."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.requirements import lines_of, require_count, require_kspace
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

Keep = Literal["random", "equispaced"]


@dataclass(frozen=True)
class Acceleration:
    """Drop acquired phase-encode lines, so that fewer are left by a factor.

    A case with `n` acquired lines keeps `n / (1 + added_factor)` of them, rounded. The lines of
    k-space's centre stay; which of the others go is drawn for each case, and for each slice and
    phase that has a mask of its own. The k-space, `(b, 2c, *s)`, is zeroed there and the `mask`
    follows; the target and the noise of a sample stay.

    The draw is alike at every severity. Of lines kept at random, those left at a higher one are
    among those left at a lower one; equispaced lines move apart, so that they cannot be.

    Attributes:
        added_factor: What is added to the undersampling factor.
        centre_lines: How many lines around the centre row stay: fewer where the block that was
            acquired without a gap is narrower.
        keep: Which lines outside the centre stay: "random", any of them alike; or "equispaced", in
            even steps among those that were acquired, from a first one that is drawn.

    Source: Schlemper et al., IEEE TMI 37 (2018), section IV, for random masks with a full centre;
    Zbontar et al., arXiv 1811.08839 (2018), for equispaced ones.
    """

    added_factor: Levels = (0.25, 0.5, 0.75, 1.0, 1.25)
    centre_lines: int = 8
    keep: Keep = "random"

    def __post_init__(self) -> None:
        levels = require_levels("acceleration: added_factor", self.added_factor)
        object.__setattr__(self, "added_factor", levels)
        require_count("acceleration: centre_lines", self.centre_lines)
        if self.keep not in get_args(Keep):
            raise InputError(
                f"acceleration: keep must be one of {', '.join(get_args(Keep))}, got {self.keep!r}"
            )

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is no k-space, or the centre lines alone are already more than
                what would be left.
        """
        if severity == 0:
            return batch
        factor = 1 + strength("acceleration", self.added_factor, severity)
        mask = require_kspace("acceleration", batch, "an image has no lines to drop")
        lines = lines_of(mask)
        acquired = lines.flatten(0, 1)
        centre = centre_block(acquired, self.centre_lines)
        left = (acquired.sum(dim=1) / factor).round()
        _require_room(batch, centre.sum(dim=1), left)
        # Not the probe's own stream, whose name holds the severity: the lines are to be nested.
        stream = CaseRng(rng.seed, "acceleration", rng.case_ids)
        others = acquired & ~centre
        most = left - centre.sum(dim=1)
        if self.keep == "random":
            turn = stream.uniform(*lines.shape[1:]).flatten(0, 1).to(others.device)
            chosen = first_in_turn(others, most, turn)
        else:
            start = stream.uniform(lines.shape[1]).flatten().to(others.device)
            chosen = equispaced(others, most, start)
        kept = (centre | chosen).view(*mask.shape[:-1], 1)
        context = {**batch.context, "mask": batch.context["mask"].where(kept, 0)}
        return replace(batch, image=batch.image.where(kept, 0), context=context)


def _require_room(batch: Batch, centre: Tensor, left: Tensor) -> None:
    wrong = (left < centre.clamp(min=1)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        case = batch.case_ids[first * len(batch) // len(left)]
        raise CaseError(
            f"acceleration: case {case!r} would keep {int(left[first])} lines, fewer than "
            f"{max(int(centre[first]), 1)}: those of its centre stay, and one at least; lower the "
            "severity, added_factor or centre_lines"
        )


def first_in_turn(lines: Tensor, most: Tensor, turn: Tensor) -> Tensor:
    """Of `lines` `(n, h)`, bool, the `most` `(n,)` whose `turn` `(n, h)`, below 1, comes first."""
    rank = turn.where(lines, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    return lines & (rank < most.unsqueeze(1))


def equispaced(lines: Tensor, most: Tensor, start: Tensor) -> Tensor:
    """Of `lines` `(n, h)`, bool, `most` `(n,)` in even steps: counted, at most one apart.

    `start`, `(n,)`, in [0, 1), says where the first one lies. Where it is uniform, each line is as
    likely to stay as any other.
    """
    count = lines.sum(dim=1, keepdim=True).clamp(min=1)
    most = most.long().unsqueeze(1)
    # A whole number that grows by `most` a line passes a multiple of `count` just `most` times.
    after = lines.cumsum(dim=1) * most + (start.unsqueeze(1) * count).long()
    return lines & (after // count > (after - most) // count)


def centre_block(acquired: Tensor, most: int) -> Tensor:
    """The acquired lines around the middle row without a gap, at most `most`; `(n, h)` bool."""
    middle = acquired.shape[1] // 2
    above = acquired[:, : middle + 1].flip(1).cumprod(dim=1).flip(1)
    below = acquired[:, middle:].cumprod(dim=1)
    offset = torch.arange(acquired.shape[1], device=acquired.device) - middle
    near = (offset >= -(most // 2)) & (offset < most - most // 2)
    return torch.cat([above, below[:, 1:]], dim=1).bool() & near
