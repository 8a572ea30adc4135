"""Noise of several receive coils that hear one another."""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.shifts.coils import own_noise, require_coils
from robustbench_med.shifts.lines import levels_up_to, per_case
from robustbench_med.shifts.requirements import require_count, require_magnitudes
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng

TOGETHER = 8  # uniform draws whose product is far from the least of single precision


@dataclass(frozen=True)
class CoilNoise:
    """Add complex Gaussian noise of which every two coils share the same part.

    The noise of each coil has variance `sigma^2` in its real and in its imaginary part, and the
    covariance of any two coils is `correlation * sigma^2`.

    k-space of several coils, which has a `mask` in the context: `sigma` is in multiples of the
    case's own `noise`, is added to acquired samples only, and the context's `noise` follows: it
    becomes `sqrt(1 + sigma^2)` times itself. Exact. Magnitude images: an image is taken as the
    root of the sum of squares over `coils` coils that see the object equally well and of one
    phase, an approximation; `sigma` is a share of the case's brightest voxel. With no correlation
    the result is noncentral chi with `2 coils` degrees of freedom; at any, its mean square is the
    image's and `2 coils sigma^2`.

    Attributes:
        multiples: Standard deviation in k-space, in multiples of the case's own.
        sigma: Standard deviation in images, of each coil, as a share of the case's maximum.
        correlation: Of the noise of any two coils, at least 0 and below 1.
        coils: Of a magnitude image; k-space has its own.

    Source: Constantinides, Atalar and McVeigh, MRM 38 (1997), for the magnitude of several coils;
    Aja-Fernandez and Tristan-Vega, MRM 67 (2012), for coils that are correlated.
    """

    multiples: Levels = (0.5, 1.0, 2.0, 3.0, 5.0)
    sigma: Levels = (0.005, 0.01, 0.02, 0.03, 0.05)
    correlation: float = 0.3
    coils: int = 8

    def __post_init__(self) -> None:
        for name in ("multiples", "sigma"):
            levels = levels_up_to(f"coil_noise: {name}", getattr(self, name))
            object.__setattr__(self, name, levels)
        shared: object = self.correlation
        if isinstance(shared, bool) or not isinstance(shared, (int, float)) or not 0 <= shared < 1:
            raise InputError(
                f"coil_noise: correlation must be at least 0 and below 1, got {shared!r}"
            )
        require_count("coil_noise: coils", self.coils)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            CaseError: If an image has negative intensities, or k-space is of one coil or has no
                `noise` above 0 in its context.
        """
        sigma = strength("coil_noise", self.sigma, severity)
        multiple = strength("coil_noise", self.multiples, severity)
        if severity == 0:
            return batch
        if "mask" in batch.context:
            return self._in_kspace(batch, multiple, rng)
        image = require_magnitudes("coil_noise", batch)
        peak = per_case(image.flatten(start_dim=1).amax(dim=1), image)
        return replace(batch, image=self._magnitude(image, sigma * peak, rng))

    def _in_kspace(self, batch: Batch, multiple: float, rng: CaseRng) -> Batch:
        acquired = require_coils("coil_noise", batch, "use kspace_noise")
        image, noise = batch.image, own_noise("coil_noise", batch)
        alone = rng.normal_like(image) * sqrt(1 - self.correlation)
        common = rng.normal(2, *image.shape[2:]).to(image) * sqrt(self.correlation)
        drawn = alone + common.repeat(1, image.shape[1] // 2, *[1] * (image.ndim - 2))
        added = (multiple * per_case(noise, image) * drawn).where(acquired, 0)
        context = {**batch.context, "noise": noise * sqrt(1 + multiple**2)}
        return replace(batch, image=image + added, context=context)

    def _magnitude(self, image: Tensor, sigma: Tensor, rng: CaseRng) -> Tensor:
        """Root of the sum of squares over coils, without any one of them.

        Where all coils see the image equally well, it lies along one direction in the space of
        coils, whose noise has variance `1 + (coils - 1) correlation`. Every other direction has
        `1 - correlation` and no image, and their sum of squares is drawn as one.
        """
        along = sigma * sqrt(1 + (self.coils - 1) * self.correlation)
        across = sigma * sqrt(1 - self.correlation)
        seen = (image + along * rng.normal_like(image)).square()
        seen += (along * rng.normal_like(image)).square()
        # Half a sum of squares of two is exponential, the negative logarithm of a uniform draw.
        rest = torch.zeros_like(image)
        for first in range(1, self.coils, TOGETHER):
            drawn = 1 - rng.uniform(min(TOGETHER, self.coils - first), *image.shape[1:])
            rest -= drawn.prod(dim=1).log().to(image)
        return (seen + 2 * across.square() * rest).sqrt()
