"""A probe of a shift's worst: a search over its parameters, handed in like the shift itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.probes import Metrics, Probe, Values, legal, score
from robustbench_med.streams import CaseRng

Parameters = Mapping[str, Tensor]
Ranges = Mapping[str, tuple[float, float]]
Apply = Callable[[Parameters], Batch]


@runtime_checkable
class Parametrised(Protocol):
    """A shift that is a few numbers per case, so that the worst of them can be searched for."""

    def ranges(self, batch: Batch, severity: float) -> Ranges:
        """Return what each parameter can be up to `severity`: lowest and highest, with units.

        Whatever the shift draws at `severity` lies in this box.
        """
        ...

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Return the batch shifted as `parameters` say, one number per case; draws nothing."""
        ...


class Search(Protocol):
    """Looks for the parameters of a shift that the model handles worst."""

    def __call__(
        self, model: Model, batch: Batch, ranges: Ranges, apply: Apply, rng: CaseRng
    ) -> Parameters:
        """Return the worst parameters found, `(b,)` each.

        Args:
            model: Under test.
            batch: As it is without the shift.
            ranges: Lowest and highest value of each parameter.
            apply: Shifts the batch.
            rng: One random stream per case.
        """
        ...


def searched(
    name: str, search: Search, shift: Parametrised, severity: float, metrics: Metrics
) -> Probe:
    """Score the cases under the worst parameters of `shift`, up to `severity`, that `search` finds.

    Also records them, as `found.NAME`.

    Raises:
        InputError: If the shift has no parameters to search.
    """
    if not severity >= 0:
        raise InputError(f"shift {name!r}: severity must be at least 0, got {severity}")
    if not isinstance(shift, Parametrised):
        raise InputError(
            f"shift {name!r}: has no parameters to search (no `ranges` and `apply`; a joint shift "
            "has them where both parts have); leave out `search`, or take a shift that has "
            "(docs/shift.md)"
        )
    measure = _Searched(search, shift, float(severity), dict(metrics))
    return Probe(f"{name}_worst@{severity:g}", "shift", float(severity), measure)


@dataclass(frozen=True)
class _Searched:
    search: Search
    shift: Parametrised
    severity: float
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        ranges = self.shift.ranges(batch, self.severity)
        found = dict.fromkeys(ranges, torch.zeros(len(batch)))
        moved = batch
        if self.severity > 0:
            apply = partial(self.shift.apply, batch)
            found = dict(self.search(model, batch, ranges, apply, rng))
            # As with a ball, a search is not trusted to stay where it may look.
            found = {name: found[name].detach().clamp(*ranges[name]) for name in ranges}
            moved = apply(found)
        values = score(model, legal(moved, batch, model), self.metrics)
        return {**values, **{f"found.{name}": value for name, value in found.items()}}
