"""A receiver that failed while some phase-encode lines were acquired."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.acceleration import centre_block
from robustbench_med.shifts.lines import Along, levels_up_to, require_along, weigh
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class LostLines:
    """Set a share of the acquired phase-encode lines to 0 and let nobody know.

    The sampling `mask` stays: the scan's record says that these lines were acquired, and a model
    takes their zeros as measured. That is what sets a failure apart from `acceleration`, whose
    mask follows. Of `n` acquired lines `share * n` are lost, on average where that is no whole
    number. Which ones is drawn for each case, and for each slice and phase that has a mask of its
    own; lines lost at a lower severity are among those lost at a higher one. Target and noise
    stay.

    k-space cases, which have a `mask` in the context: exact. Magnitude images: lines of their own
    Fourier transform are lost and the magnitude is taken again, an approximation, because the
    phase that the scanner measured is gone; slices and phases lose the same lines.

    Attributes:
        share: Of the acquired lines, how many are lost; at most 1.
        centre_lines: How many lines around the centre row stay: fewer where the block that was
            acquired without a gap is narrower; 0 for none.
        lines: What is a phase-encode line of an image, "rows" or "columns"; k-space has rows.

    Source: Zhuo and Gullapalli, RadioGraphics 26 (2006), DOI 10.1148/rg.261055134, for data that
    fail to be read.
    """

    share: Levels = (0.06, 0.12, 0.18, 0.25, 0.35)
    centre_lines: int = 4
    lines: Along = "rows"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", levels_up_to("lost_lines: share", self.share, 1))
        centre: object = self.centre_lines
        if isinstance(centre, bool) or not isinstance(centre, int) or centre < 0:
            raise InputError(
                f"lost_lines: centre_lines must be a whole number, at least 0, got {centre!r}"
            )
        require_along("lost_lines", self.lines)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            CaseError: If an image has negative intensities, no line would be left, or more would
                be lost than there are outside of the centre.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        share = strength("lost_lines", self.share, severity)
        if severity == 0:
            return batch

        def weights(acquired: Tensor) -> Tensor:
            # Not the probe's own stream, whose name holds the severity: lines are to be nested.
            stream = CaseRng(rng.seed, "lost_lines", rng.case_ids)
            drawn = stream.uniform(acquired.shape[1], acquired.shape[2] + 1).to(acquired.device)
            turn, fraction = drawn[..., :-1].flatten(0, 1), drawn[..., -1].flatten()
            measured = acquired.flatten(0, 1)
            centre = centre_block(measured, self.centre_lines)
            lost = (share * measured.sum(dim=1) + fraction).floor()
            _require_room(batch, measured, centre, lost)
            candidate = turn.where(measured & ~centre, 2.0)
            rank: Tensor = candidate.argsort(dim=1, stable=True).argsort(dim=1)
            return (rank >= lost.unsqueeze(1)).view_as(acquired)

        return weigh("lost_lines", batch, self.lines, weights)


def _require_room(batch: Batch, measured: Tensor, centre: Tensor, lost: Tensor) -> None:
    """Refuse to lose the centre, or every line of a plane that has any; lines are `(n, h)`."""
    count, kept = measured.sum(dim=1), centre.sum(dim=1)
    wrong = ((lost > count - kept) | ((lost >= count) & (count > 0))).nonzero()
    if len(wrong):
        first = int(wrong[0])
        case = batch.case_ids[first * len(batch) // len(lost)]
        raise CaseError(
            f"lost_lines: case {case!r} would lose {int(lost[first])} of {int(count[first])} "
            f"lines, of which {int(kept[first])} in the centre stay and at least one must be left; "
            "lower the severity or centre_lines"
        )
