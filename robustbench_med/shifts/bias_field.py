"""Uneven brightness of a receive or transmit coil."""

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import require_images
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class BiasField:
    """Multiply each case by a smooth random field, the same for all of its channels.

    The field's logarithm is a polynomial in coordinates that run from -1 to 1 along each axis,
    without a constant term, so that it is 1 at the centre. Its coefficients are uniform between
    plus and minus `coefficient`. Any intensity units will do.

    Attributes:
        coefficient: Largest coefficient of the log-field.
        order: Highest total power of the polynomial, at least 1.

    Source: Van Leemput et al., IEEE TMI 18 (1999), for the polynomial of the log-field;
    TorchIO's RandomBiasField (Perez-Garcia et al., CMPB 208, 2021) for drawing it.
    Deviation: no constant term, which would be a gain.
    """

    coefficient: Levels = (0.1, 0.2, 0.3, 0.4, 0.5)
    order: int = 3

    def __post_init__(self) -> None:
        levels = require_levels("bias_field: coefficient", self.coefficient)
        object.__setattr__(self, "coefficient", levels)
        order: object = self.order
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise InputError(f"bias_field: order must be a whole number, at least 1, got {order!r}")

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space.
            UnsupportedError: If the images have no spatial axis.
        """
        if severity == 0:
            return batch
        names = self.ranges(batch, severity)
        most = strength("bias_field", self.coefficient, severity)
        drawn = most * (2 * rng.uniform(len(names)) - 1)
        return self.apply(batch, dict(zip(names, drawn.unbind(dim=1), strict=True)))

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `power_1_2` is the coefficient of the first times the second squared.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space.
            UnsupportedError: If the images have no spatial axis.
        """
        most = strength("bias_field", self.coefficient, severity)
        require_images("bias_field", batch)
        space = batch.image.shape[2:]
        if not space:
            raise UnsupportedError("bias_field: needs images with a spatial axis, got (c,)")
        return {
            "power_" + "_".join(map(str, power)): (-most, most)
            for power in powers(len(space), self.order)
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in all coefficients."""
        coefficients = torch.stack([parameters[n] for n in self.ranges(batch, 0)], dim=1)
        terms = monomials(batch.image.shape[2:], self.order)
        field = torch.tensordot(coefficients.to(terms), terms, 1).exp()
        return replace(batch, image=batch.image * field.unsqueeze(1).to(batch.image))


def powers(axes: int, order: int) -> list[tuple[int, ...]]:
    """Powers of each coordinate in every product of total power 1 to `order`."""
    return [each for each in product(range(order + 1), repeat=axes) if 1 <= sum(each) <= order]


def monomials(space: tuple[int, ...], order: int) -> Tensor:
    """Every product of powers of the coordinates, of total power 1 to `order`, `(terms, *s)`."""
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in space]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(
        [
            torch.stack([axis**power for axis, power in zip(grid, each, strict=True)]).prod(dim=0)
            for each in powers(len(space), order)
        ]
    )
