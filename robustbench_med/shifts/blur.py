"""Loss of in-plane resolution."""

from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import (
    require_images,
    require_plane,
)
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Blur:
    """Smooth the last two axes, the plane of a slice, with a Gaussian.

    Edges reflect about the outermost voxel, so a constant image stays constant. Draws no random
    numbers, and needs no magnitudes: it is a weighted mean.

    Attributes:
        sigma: Standard deviation, in voxels.

    Source: the Gaussian kernel cut at four standard deviations, as in scipy's
    `gaussian_filter(mode="mirror")`.
    """

    sigma: Levels = (0.5, 1.0, 1.5, 2.0, 2.5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", require_levels("blur: sigma", self.sigma))

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space.
            UnsupportedError: If the images have fewer than two spatial axes.
        """
        del rng
        if severity == 0:
            return batch
        sigma = torch.tensor([strength("blur", self.sigma, severity)], dtype=torch.float64)
        return self.apply(batch, {"sigma": sigma})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `sigma`, in voxels.

        Raises:
            InputError: If the severity is outside 0 to 5.
        """
        del batch
        return {"sigma": (0.0, strength("blur", self.sigma, severity))}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; one sigma may stand for all cases.

        Raises:
            CaseError: If the case is k-space.
            UnsupportedError: If the images have fewer than two spatial axes.
        """
        require_images("blur", batch)
        image = require_plane("blur", batch)
        sigmas = parameters["sigma"].tolist()
        rows, columns = (
            torch.stack([gaussian_matrix(size, sigma) for sigma in sigmas])
            .to(image)
            .view(-1, *[1] * (image.ndim - 3), size, size)
            for size in image.shape[-2:]
        )
        return replace(batch, image=rows @ image @ columns.mT)


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Matrix `(size, size)` that smooths an axis of that many voxels; its rows sum to 1.

    One matrix product per axis handles any width of the kernel, also beyond the image.
    """
    reach = ceil(4 * sigma)
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (offset / max(sigma, 1e-12)) ** 2)
    position = torch.arange(size).unsqueeze(1) + offset.long()
    period = max(2 * (size - 1), 1)
    folded = (size - 1) - ((size - 1) - position.remainder(period)).abs()
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add(1, folded, (weight / weight.sum()).expand(size, -1))
