"""Probes of a shift's worst: a search over its parameters, handed in like the shift itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.probes import (
    Attack,
    Metrics,
    Probe,
    Values,
    attacked,
    legal,
    require_severity,
    score,
)
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

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


@dataclass(frozen=True)
class Then:
    """An attack on the images that a search has found.

    Attributes:
        name: Of the attack, for the probe's name.
        attack: Searches the ball.
        ball: Around the image as the worst parameters left it, within the model's bounds whatever
            its own; a unit or support that refers to the case refers to the shifted one.
    """

    name: str
    attack: Attack
    ball: Ball


def searched(
    name: str, search: Search, shift: Parametrised, severity: float, metrics: Metrics
) -> Probe:
    """Score the cases under the worst parameters of `shift`, up to `severity`, that `search` finds.

    Also records them, as `found.NAME`.

    Raises:
        InputError: If the shift has no parameters to search, or the severity is outside 0 to 5.
    """
    measure = _searched(name, search, shift, severity, metrics)
    return Probe(f"{name}_worst@{severity:g}", "shift", measure.severity, measure)


def searched_then(
    name: str, search: Search, shift: Parametrised, severity: float, metrics: Metrics, then: Then
) -> Probe:
    """As `searched`, and then score what an attack finds in a ball around the shifted images.

    The search knows nothing of the ball: the worst of both together may be worse than the worst
    of one after the other. At severity 0 only the ball is left, at eps 0 only the shift.

    Raises:
        InputError: If the shift has no parameters to search, or the severity is outside 0 to 5.
    """
    measure = _SearchedThen(_searched(name, search, shift, severity, metrics), then)
    called = f"{name}_worst+{then.name}[{then.ball}]@{severity:g}"
    return Probe(called, "shift", measure.searched.severity, measure)


def _searched(
    name: str, search: Search, shift: Parametrised, severity: float, metrics: Metrics
) -> "_Searched":
    require_severity(f"shift {name!r}", severity)
    if not isinstance(shift, Parametrised):
        raise InputError(
            f"shift {name!r}: has no parameters to search (no `ranges` and `apply`; a joint shift "
            "has them where both parts have); leave out `search`, or take a shift that has "
            "(docs/shift.md)"
        )
    return _Searched(search, shift, float(severity), dict(metrics))


@dataclass(frozen=True)
class _Searched:
    search: Search
    shift: Parametrised
    severity: float
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        found, moved = self.worst(model, batch, rng)
        return {**score(model, moved, self.metrics), **found}

    def worst(self, model: Model, batch: Batch, rng: CaseRng) -> tuple[Values, Batch]:
        """The parameters found, as they are recorded, and the cases under them, in bounds."""
        ranges = self.shift.ranges(batch, self.severity)
        found = dict.fromkeys(ranges, torch.zeros(len(batch)))
        moved = batch
        if self.severity > 0:
            apply = partial(self.shift.apply, batch)
            found = dict(self.search(model, batch, ranges, apply, rng))
            # As with a ball, a search is not trusted to stay where it may look.
            found = {name: found[name].detach().clamp(*ranges[name]) for name in ranges}
            moved = apply(found)
        recorded = {f"found.{name}": value for name, value in found.items()}
        return recorded, legal(moved, batch, model)


@dataclass(frozen=True)
class _SearchedThen:
    searched: _Searched
    then: Then

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        found, moved = self.searched.worst(model, batch, rng)
        ball = replace(self.then.ball, bounds=model.bounds)
        # The attack's own probe projects and scores, so that the ball is enforced there too.
        probe = attacked(self.then.name, self.then.attack, ball, self.searched.metrics)
        return {**probe.measure(model, moved, rng.child("then")), **found}
