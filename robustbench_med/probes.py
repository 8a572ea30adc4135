"""A probe turns (model, batch) into named numbers per case. The engine knows nothing else."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.components import describe
from robustbench_med.errors import CaseError, InputError
from robustbench_med.model import Model
from robustbench_med.proofs.statement import AnyCertificate
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

Values = Mapping[str, Tensor]
Better = Literal["higher", "lower", "zero"]
Kind = Literal["clean", "attack", "shift", "certificate"]
MOST_SEVERITY = 5  # of a shift; the least is 0, where nothing changes
SMOOTHING = "smoothing"  # what names begin with that `statistics.contradiction` takes for no proof


class Certified(dict[str, Tensor]):
    """Values with the certificates behind them.

    Attributes:
        certificates: Case ids, each with its certificate.
    """

    def __init__(
        self, values: Values, certificates: Sequence[tuple[str, AnyCertificate]] = ()
    ) -> None:
        super().__init__(values)
        self.certificates = tuple(certificates)


class Metric(Protocol):
    """Scores outputs against targets, one value per case.

    A metric may take `context` as third argument, and may return a mapping: its entry
    "value" is recorded under the metric's own name, every other as "name.entry".

    Attributes:
        better: What a good value is: "higher", "lower", or near "zero".
    """

    @property
    def better(self) -> Better: ...  # noqa: D102

    def __call__(self, output: Tensor, target: Tensor) -> Tensor | Values:
        """Return `(b,)`, NaN where undefined, or a mapping of such."""
        ...


class Attack(Protocol):
    """Searches a ball for the image the model handles worst."""

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """Return images `(b, c, *s)`; the probe projects them into `ball` again."""
        ...


class Shift(Protocol):
    """Changes cases the way a scanner, a site or a protocol would."""

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """Return the batch, shifted; severity 0 returns `batch` unchanged, ids always stay.

        Severities go from 0 to 5, the strongest.
        """
        ...


class Certifier(Protocol):
    """Proves, or declines to prove, that nothing in a ball changes the answer."""

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """Return `(b,)` by name, among them `certified`.

        `certified` is 1 where the true class is proved kept and 0 elsewhere; for a
        segmentation, the share of pixels. One that proves nothing, but speaks of a smoothed
        model with a probability, has an attribute `statistical` that is true.
        """
        ...


Metrics = Mapping[str, Metric]
Measure = Callable[[Model, Batch, CaseRng], Values]


@dataclass(frozen=True)
class Probe:
    """A named way of questioning a model. Pickles.

    Attributes:
        name: Unique in a run; goes into every record.
        kind: Which family of evidence the records belong to.
        level: eps or severity; 0 for clean.
        measure: Maps (model, batch, rng) to values `(b,)` by metric name.
    """

    name: str
    kind: Kind
    level: float
    measure: Measure

    @property
    def spec(self) -> Mapping[str, object]:
        """Qualified names and fields of all it is made of; its digest comes from this."""
        described = describe(self)
        if not isinstance(described, dict):
            raise InputError(f"probe {self.name!r}: cannot be described")
        return described


@dataclass(frozen=True)
class Record:
    """One number about one case under one probe: one row of the table."""

    case_id: str
    probe: str
    kind: Kind
    level: float
    metric: str
    value: float


def clean(metrics: Metrics) -> Probe:
    """Score the images as they are."""
    return Probe("clean", "clean", 0.0, _Clean(dict(metrics)))


def attacked(name: str, attack: Attack, ball: Ball, metrics: Metrics) -> Probe:
    """Score what `attack` finds in `ball`, with the ball enforced here, not trusted."""
    measure = _Attacked(attack, ball, dict(metrics))
    return Probe(f"{name}[{ball}]", "attack", ball.eps, measure)


def shifted(name: str, shift: Shift, severity: float, metrics: Metrics) -> Probe:
    """Score the cases after `shift` at `severity`, brought back into the model's bounds.

    Raises:
        InputError: If the severity is outside 0 to 5.
    """
    require_severity(f"shift {name!r}", severity)
    measure = _Shifted(shift, float(severity), dict(metrics))
    return Probe(f"{name}@{severity:g}", "shift", float(severity), measure)


def require_severity(who: str, severity: float) -> None:
    """Refuse a severity outside 0 to 5, also NaN.

    Args:
        who: The shift, for the message.
        severity: What was asked.

    Raises:
        InputError: Naming the shift and what it got.
    """
    if not 0 <= severity <= MOST_SEVERITY:
        raise InputError(f"{who}: severity must be from 0 to {MOST_SEVERITY}, got {severity!r}")


def certified(name: str, certifier: Certifier, ball: Ball) -> Probe:
    """Ask `certifier` for a proof over `ball`.

    Raises:
        InputError: If what it says holds with a probability only, and `name` does not tell.
    """
    if getattr(certifier, "statistical", False) and not name.startswith(SMOOTHING):
        raise InputError(
            f"certificate {name!r}: {type(certifier).__name__} proves nothing, it speaks of the "
            f"smoothed model with a probability; call it {SMOOTHING}..., so that nobody takes it "
            "for a proof"
        )
    return Probe(f"{name}[{ball}]", "certificate", ball.eps, _Certified(certifier, ball))


@dataclass(frozen=True)
class _Clean:
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        del rng
        return score(model, batch, self.metrics)


@dataclass(frozen=True)
class _Attacked:
    attack: Attack
    ball: Ball
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        found = self.attack(model, batch, self.ball, rng)
        if found.shape != batch.image.shape:
            raise CaseError(f"attack returned shape {tuple(found.shape)}, not the image's")
        image = self.ball.stored(found.detach(), batch.image, batch.context)
        return score(model, _with_image(batch, image), self.metrics)


@dataclass(frozen=True)
class _Shifted:
    shift: Shift
    severity: float
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        moved = self.shift(batch, self.severity, rng)
        return score(model, legal(moved, batch, model), self.metrics)


def legal(moved: Batch, batch: Batch, model: Model) -> Batch:
    """Return the shifted batch, brought back into the model's bounds.

    Raises:
        CaseError: If the shift changed ids, or its image is not finite.
    """
    if moved.case_ids != batch.case_ids:
        raise CaseError("shift changed the case ids")
    if not moved.image.isfinite().all():
        raise CaseError("shift returned an image that is not finite")
    return _with_image(moved, moved.image.clamp(*model.bounds))


@dataclass(frozen=True)
class _Certified:
    certifier: Certifier
    ball: Ball

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        values = self.certifier(model, batch, self.ball, rng)
        if "certified" not in values:
            raise InputError(f"certifier {self.certifier!r}: returned no entry 'certified'")
        return values


@torch.no_grad()
def score(model: Model, batch: Batch, metrics: Metrics) -> Values:
    """Run the model once and score its output with every metric.

    Raises:
        CaseError: If any case's output holds NaN or an infinity.
    """
    output = model(batch.image, batch.context)
    if not output.isfinite().all():
        raise CaseError("the model's output is not finite")
    values: dict[str, Tensor] = {}
    for name, metric in metrics.items():
        scored = called(metric, output, batch)
        if isinstance(scored, Tensor):
            values[name] = scored
        else:
            entries = {name if key == "value" else f"{name}.{key}": scored[key] for key in scored}
            values.update(entries)
    return values


def called(metric: Metric, output: Tensor, batch: Batch) -> Tensor | Values:
    """What `metric` says of the output, with the context if it takes that."""
    signature = inspect.signature(metric)
    if "context" in signature.parameters:
        return metric(output, batch.target, context=batch.context)  # type: ignore[call-arg]
    return metric(output, batch.target)


def _with_image(batch: Batch, image: Tensor) -> Batch:
    return Batch(batch.case_ids, image, batch.target, batch.context)
