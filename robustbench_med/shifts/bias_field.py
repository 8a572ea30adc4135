"""Uneven brightness of a receive or transmit coil."""

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.shifts.requirements import require_images, require_strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class BiasField:
    """Multiply each case by a smooth random field, the same for all of its channels.

    The field's logarithm is a polynomial in coordinates that run from -1 to 1 along each axis,
    without a constant term, so that it is 1 at the centre. Its coefficients are uniform between
    plus and minus `severity * coefficient_per_severity`. Any intensity units will do.

    Attributes:
        coefficient_per_severity: Largest coefficient at severity 1.
        order: Highest total power of the polynomial, at least 1.

    Source: Van Leemput et al., IEEE TMI 18 (1999), for the polynomial of the log-field;
    TorchIO's RandomBiasField (Perez-Garcia et al., CMPB 208, 2021) for drawing it.
    Deviation: no constant term, which would be a gain.
    """

    coefficient_per_severity: float = 0.1
    order: int = 3

    def __post_init__(self) -> None:
        require_strength("bias_field: coefficient_per_severity", self.coefficient_per_severity)
        order: object = self.order
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise InputError(f"bias_field: order must be a whole number, at least 1, got {order!r}")

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            CaseError: If the case is k-space.
            UnsupportedError: If the images have no spatial axis.
        """
        if severity == 0:
            return batch
        require_images("bias_field", batch)
        space = batch.image.shape[2:]
        if not space:
            raise UnsupportedError("bias_field: needs images with a spatial axis, got (c,)")
        terms = monomials(space, self.order)
        drawn = 2 * rng.uniform(len(terms)) - 1
        log_field = severity * self.coefficient_per_severity * torch.tensordot(drawn, terms, 1)
        field = log_field.exp().unsqueeze(1).to(batch.image)
        return replace(batch, image=batch.image * field)


def monomials(space: tuple[int, ...], order: int) -> Tensor:
    """Every product of powers of the coordinates, of total power 1 to `order`, `(terms, *s)`."""
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in space]
    grid = torch.meshgrid(*axes, indexing="ij")
    powers = [p for p in product(range(order + 1), repeat=len(space)) if 1 <= sum(p) <= order]
    return torch.stack(
        [
            torch.stack([axis**power for axis, power in zip(grid, each, strict=True)]).prod(dim=0)
            for each in powers
        ]
    )
