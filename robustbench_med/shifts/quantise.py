"""Too few grey levels: intensities rounded to a coarse scale."""

from dataclasses import dataclass, replace

import torch

from robustbench_med.cases import Batch
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import require_images
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Quantise:
    """Round intensities to grey levels that are evenly spaced over the case's range.

    Levels start at the case's lowest intensity, `step` times its range apart; what would be
    rounded above its highest becomes that. A step of `1 / (2^k - 1)` is `k` bits. Any intensity
    units will do. Draws no random numbers.

    Attributes:
        step: Levels of the distance between grey levels, as shares of the case's range, below 1.
            The default is 7, 6, 5, 4 and 3 bits.

    Source: the uniform quantiser (Bennett, Bell Syst. Tech. J. 27, 1948), whose error has a
    variance of a twelfth of the squared step.
    """

    step: Levels = (1 / 127, 1 / 63, 1 / 31, 1 / 15, 1 / 7)

    def __post_init__(self) -> None:
        require_levels("quantise: step", self.step)
        object.__setattr__(self, "step", tuple(self.step))

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space.
        """
        del rng
        if severity == 0:
            return batch
        step = strength("quantise", self.step, severity)
        return self.apply(batch, {"step": torch.full((1,), step)})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `step`, as a share of the case's range."""
        del batch
        return {"step": (0.0, strength("quantise", self.step, severity))}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; in steps, so without a slope. One `step` may stand for all cases.

        Raises:
            CaseError: If the case is k-space.
        """
        require_images("quantise", batch)
        image = batch.image
        like = (-1, *[1] * (image.ndim - 1))
        lowest, highest = (limit.view(like) for limit in image.flatten(start_dim=1).aminmax(dim=1))
        step = parameters["step"].to(image).view(like) * (highest - lowest)
        number = ((image - lowest) / step.where(step > 0, 1)).round()
        rounded = torch.minimum(lowest + number * step, highest)
        return replace(batch, image=rounded.where(step > 0, image))
