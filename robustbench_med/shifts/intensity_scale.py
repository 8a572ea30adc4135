"""Another unit: intensities multiplied, and moved by a constant."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.searching import Parameters
from robustbench_med.shifts.directions import drawn_sides, limits, require_direction
from robustbench_med.shifts.requirements import require_magnitudes
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

Direction = Literal["brighter", "darker", "random"]
WORDS = get_args(Direction)
BRIGHT = 0.99  # quantile of a case's intensities of which `offset` is a share


@dataclass(frozen=True)
class IntensityScale:
    """Multiply a case by `exp(+-log_gain)`, then add or take away a share of its brightness.

    A case's brightness is the 0.99 quantile of its intensities, before the gain. Brighter is more
    gain and more offset, darker less of both. What would fall below 0 becomes 0, as no magnitude
    is negative; nothing is cut off above. A network that normalises each case does not see the
    gain, but it does see the offset.

    Attributes:
        log_gain: Levels of the natural logarithm of the gain.
        offset: Levels of what is added, as shares of the case's brightness.
        direction: "brighter", "darker", or "random": each case drawn with equal chance,
            alike at every severity.

    Source: the gain and offset of MONAI's RandScaleIntensity and RandShiftIntensity (Cardoso et
    al., arXiv:2211.02701, 2022). Deviations: the gain is symmetric in its logarithm, and the
    offset has the case's own unit.
    """

    log_gain: Levels = (0.05, 0.1, 0.2, 0.35, 0.5)
    offset: Levels = (0.02, 0.04, 0.07, 0.1, 0.15)
    direction: Direction = "random"

    def __post_init__(self) -> None:
        for name in ("log_gain", "offset"):
            require_levels(f"intensity_scale: {name}", getattr(self, name))
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require_direction("intensity_scale", WORDS, self.direction)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space, or an image has negative intensities.
        """
        if severity == 0:
            return batch
        side = drawn_sides("intensity_scale", WORDS, self.direction, rng)
        return self.apply(batch, {name: most * side for name, most in self._most(severity).items()})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `log_gain`, and `offset` as a share of the case's brightness."""
        del batch
        return {
            name: limits(WORDS, self.direction, most) for name, most in self._most(severity).items()
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in both.

        Raises:
            CaseError: If the case is k-space, or an image has negative intensities.
        """
        image = require_magnitudes("intensity_scale", batch)
        like = (-1, *[1] * (image.ndim - 1))
        gain = parameters["log_gain"].exp().to(image).view(like)
        offset = parameters["offset"].to(image).view(like) * brightness(image)
        return replace(batch, image=(image * gain + offset).clamp(min=0))

    def _most(self, severity: float) -> dict[str, float]:
        return {
            name: strength("intensity_scale", getattr(self, name), severity)
            for name in ("log_gain", "offset")
        }


def brightness(image: Tensor) -> Tensor:
    """The 0.99 quantile of each case's intensities: `(b, c, *s)` to `(b, 1, *1)`."""
    values = image.flatten(start_dim=1)
    rank = max(1, int(BRIGHT * values.shape[1]))
    return values.kthvalue(rank, dim=1).values.view(-1, *[1] * (image.ndim - 1))
