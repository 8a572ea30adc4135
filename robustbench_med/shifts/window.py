"""An intensity window that is too narrow: shadows become black, highlights white."""

from dataclasses import dataclass, replace

import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import require_images
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

ENDS = ("low", "high")


@dataclass(frozen=True)
class Window:
    """Cut off both ends of the case's range of intensities and stretch what is left over it.

    Intensities below `low` of the way from the case's lowest to its highest become the lowest,
    those above `1 - high` of it the highest, and those between are stretched to fill the range.
    Any intensity units will do. Draws no random numbers.

    Attributes:
        low: Levels of the share of the range that is cut off at its lower end.
        high: Levels of the share that is cut off at its upper end; with `low` below 1.

    Source: DICOM PS3.3, C.11.2.1.2, the linear function of a window of centre and width.
    """

    low: Levels = (0.02, 0.04, 0.07, 0.1, 0.15)
    high: Levels = (0.1, 0.2, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        for name in ENDS:
            require_levels(f"window: {name}", getattr(self, name))
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.low[-1] + self.high[-1] >= 1:
            raise InputError(
                "window: low and high of severity 5 must leave some of the range, together below "
                f"1, got {self.low[-1]:g} and {self.high[-1]:g}"
            )

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space.
        """
        del rng
        if severity == 0:
            return batch
        most = self.ranges(batch, severity)
        return self.apply(batch, {name: torch.full((1,), most[name][1]) for name in ENDS})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `low` and `high`, shares of the case's range."""
        del batch
        return {name: (0.0, strength("window", getattr(self, name), severity)) for name in ENDS}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in both. One number each may stand for all cases.

        Raises:
            CaseError: If the case is k-space.
        """
        require_images("window", batch)
        image = batch.image
        like = (-1, *[1] * (image.ndim - 1))
        lowest, highest = (limit.view(like) for limit in image.flatten(start_dim=1).aminmax(dim=1))
        low, high = (parameters[name].to(image).view(like) for name in ENDS)
        extent = highest - lowest
        share = (image - lowest) / extent.where(extent > 0, 1)
        inside = ((share - low) / (1 - low - high)).clamp(0, 1)
        return replace(batch, image=lowest + extent * inside)
