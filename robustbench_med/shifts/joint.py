"""Two shifts at once: what each alone leaves standing, both together may not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from robustbench_med.cases import Batch
from robustbench_med.components import made
from robustbench_med.probes import Shift
from robustbench_med.searching import Parameters, Parametrised
from robustbench_med.streams import CaseRng

Asked = str | Mapping[str, object] | Shift
"""A shift as a plan writes it inside another: a name, a table with `use`, or the thing itself."""


def joint(first: Asked = "gamma", second: Asked = "bias_field") -> "Joint | SearchableJoint":
    """Apply one shift, then the other, both at the severity that is asked for.

    A joint shift is a shift: three are `second = {use = "joint", ...}`. Where both parts can be
    searched the pair can, over the parameters of both at once: `first_log_gamma` and so on.

    Args:
        first: The shift that comes first, by name, as a table, or itself.
        second: The shift of what the first returned, likewise.

    Raises:
        InputError: If a part is no shift, or its settings do not fit.
        UnknownNameError: If nothing has that name.
    """
    parts = [
        made("shifts", f"joint: {which}", asked)
        for which, asked in (("first", first), ("second", second))
    ]
    searchable = all(isinstance(part, Parametrised) for part in parts)
    return SearchableJoint(*parts) if searchable else Joint(*parts)


@dataclass(frozen=True)
class Joint:
    """Two shifts, of which one at least only draws.

    Attributes:
        first: The shift that comes first.
        second: The shift of what the first returned.
    """

    first: Shift
    second: Shift

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what the parts raise."""
        return both(self.first, self.second, batch, severity, rng)


class Searchable(Shift, Parametrised, Protocol):
    """A shift that draws its parameters, and whose parameters can be searched."""


@dataclass(frozen=True)
class SearchableJoint:
    """Two shifts whose parameters can be searched, and so can those of both at once.

    Attributes:
        first: The shift that comes first.
        second: The shift of what the first returned.
    """

    first: Searchable
    second: Searchable

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what the parts raise."""
        return both(self.first, self.second, batch, severity, rng)

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `first_` and `second_` before the parameters of each part.

        The second part is asked for its ranges on the batch as it is without the first.
        """
        parts = {"first": self.first, "second": self.second}
        return {
            f"{which}_{name}": limits
            for which, part in parts.items()
            for name, limits in part.ranges(batch, severity).items()
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable where the parts are. Raises what the parts raise."""
        moved = self.first.apply(batch, part_of(parameters, "first_"))
        return self.second.apply(moved, part_of(parameters, "second_"))


def both(first: Shift, second: Shift, batch: Batch, severity: float, rng: CaseRng) -> Batch:
    """Apply one shift after the other, each with random streams of its own."""
    return second(first(batch, severity, rng.child("first")), severity, rng.child("second"))


def part_of(parameters: Parameters, prefix: str) -> Parameters:
    """Parameters whose names begin with `prefix`, without it."""
    return {
        n.removeprefix(prefix): value for n, value in parameters.items() if n.startswith(prefix)
    }
