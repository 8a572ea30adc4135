"""Contrast: the curve between signal and intensity, bent."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import require_magnitudes
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

Direction = Literal["brighter", "darker", "random"]


@dataclass(frozen=True)
class Gamma:
    """Raise intensities, as shares of the case's brightest voxel, to a power.

    The exponent is `exp(-log_gamma)` where brighter and `exp(log_gamma)` where darker. Black and
    the brightest voxel stay, so any intensity units will do.

    Attributes:
        log_gamma: Natural logarithm of the exponent.
        direction: "brighter", "darker", or "random": each case drawn with equal chance.

    Source: the log-gamma of TorchIO's RandomGamma (Perez-Garcia et al., CMPB 208, 2021).
    Deviation: powers are of shares of the case's maximum, not of raw intensities.
    """

    log_gamma: Levels = (0.15, 0.3, 0.45, 0.6, 0.75)
    direction: Direction = "random"

    def __post_init__(self) -> None:
        levels = require_levels("gamma: log_gamma", self.log_gamma)
        object.__setattr__(self, "log_gamma", levels)
        if self.direction not in get_args(Direction):
            raise InputError(
                f"gamma: direction must be one of {', '.join(get_args(Direction))}, "
                f"got {self.direction!r}"
            )

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If an image has negative intensities.
        """
        if severity == 0:
            return batch
        most = strength("gamma", self.log_gamma, severity)
        return self.apply(batch, {"log_gamma": most * self._signs(rng)})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `log_gamma`, the natural logarithm of the exponent.

        Raises:
            InputError: If the severity is outside 0 to 5.
        """
        del batch
        most = strength("gamma", self.log_gamma, severity)
        return {
            "log_gamma": (
                0.0 if self.direction == "darker" else -most,
                0.0 if self.direction == "brighter" else most,
            )
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in `log_gamma`.

        Raises:
            CaseError: If an image has negative intensities.
        """
        image = require_magnitudes("gamma", batch)
        like = (-1, *[1] * (image.ndim - 1))
        exponent = parameters["log_gamma"].exp()
        peak = image.flatten(start_dim=1).amax(dim=1).view(like)
        share = image / peak.where(peak > 0, 1)
        return replace(batch, image=peak * share ** exponent.to(image).view(like))

    def _signs(self, rng: CaseRng) -> Tensor:
        """-1 for brighter and 1 for darker, `(b,)`."""
        drawn = (rng.uniform() < 0.5).float() * 2 - 1
        fixed = {"brighter": -1.0, "darker": 1.0}
        return torch.full_like(drawn, fixed[self.direction]) if self.direction in fixed else drawn
