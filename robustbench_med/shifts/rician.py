"""Noise of a magnitude MR image."""

from dataclasses import dataclass, replace

from robustbench_med.cases import Batch
from robustbench_med.shifts.requirements import require_magnitudes, require_strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Rician:
    """Add complex Gaussian noise, then take the magnitude, as the scanner does.

    Unlike Gaussian noise it raises the background and never turns an intensity negative.

    Attributes:
        sigma_per_severity: Standard deviation in each of the real and imaginary channels, at
            severity 1, in the image's intensity units.

    Source: Gudbjartsson and Patz, MRM 34 (1995), equation 1. The phase of the clean image is
    taken as 0, which does not change the distribution.
    """

    sigma_per_severity: float = 0.02

    def __post_init__(self) -> None:
        require_strength("rician: sigma_per_severity", self.sigma_per_severity)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            CaseError: If an image has negative intensities.
        """
        if severity == 0:
            return batch
        image = require_magnitudes("rician", batch)
        real, imaginary = rng.normal_like(image), rng.normal_like(image)
        sigma = severity * self.sigma_per_severity
        return replace(batch, image=(image + sigma * real).hypot(sigma * imaginary))
