"""Noise of a magnitude MR image."""

from dataclasses import dataclass, replace

from robustbench_med.cases import Batch
from robustbench_med.shifts.requirements import require_magnitudes
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Rician:
    """Add complex Gaussian noise, then take the magnitude, as the scanner does.

    Unlike Gaussian noise it raises the background and never turns an intensity negative.

    Attributes:
        sigma: Standard deviation in each of the real and imaginary channels, in the image's
            intensity units.

    Source: Gudbjartsson and Patz, MRM 34 (1995), equation 1. The phase of the clean image is
    taken as 0, which does not change the distribution.
    """

    sigma: Levels = (0.02, 0.04, 0.06, 0.08, 0.1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", require_levels("rician: sigma", self.sigma))

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If an image has negative intensities.
        """
        if severity == 0:
            return batch
        sigma = strength("rician", self.sigma, severity)
        image = require_magnitudes("rician", batch)
        real, imaginary = rng.normal_like(image), rng.normal_like(image)
        return replace(batch, image=(image + sigma * real).hypot(sigma * imaginary))
