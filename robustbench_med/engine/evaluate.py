"""Every probe on every case: records as they are known, failures beside them."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from robustbench_med.cases import Batch, Cohort
from robustbench_med.engine.agreement import check_agreement, check_batch
from robustbench_med.engine.counted import counted
from robustbench_med.errors import (
    CaseError,
    InputError,
    PartialWarning,
    RobustbenchMedError,
    UnsupportedError,
)
from robustbench_med.model import Model
from robustbench_med.probes import Certified, Probe, Record, Values
from robustbench_med.proofs.statement import AnyCertificate
from robustbench_med.streams import CaseRng

log = logging.getLogger(__name__)

OnCertificate = Callable[[str, AnyCertificate], None]


@dataclass(frozen=True)
class Failure:
    """One case that a probe could not score, or not as asked.

    Attributes:
        error: Class of what was raised; `UnsupportedError` where no answer was to be had, or only
            one to a part of the question: then there is a value too.
    """

    case_id: str
    probe: str
    kind: str
    error: str
    message: str


def evaluate(
    model: Model,
    cohort: Cohort,
    probes: Sequence[Probe],
    *,
    batch_size: int = 16,
    seed: int = 0,
    on_failure: Callable[[Failure], None] | None = None,
) -> Iterator[Record]:
    """Question `model` about every case, yielding records as they are known.

    A case that a probe cannot score yields NaN and is told to `on_failure`; the rest goes on.

    Args:
        model: Under test; in evaluation mode.
        cohort: Shares task and bounds with the model.
        probes: Their names must differ.
        batch_size: Cases at a time; does not change values beyond rounding.
        seed: Of every case's random streams.
        on_failure: Called with each failure; without it failures are logged as warnings.

    Raises:
        InputError: If the model and the cohort disagree, or a case is outside the bounds.
    """
    check_names(probes)
    check_agreement(model, cohort)
    tell = on_failure or _log_failure
    device = device_of(model)
    for batch in cohort.batches(batch_size):
        check_batch(batch, cohort.task, cohort.bounds)
        for probe in probes:
            records, failures = measure(model, batch.to(device), probe, seed)
            for failure in failures:
                tell(failure)
            yield from records


def check_names(probes: Sequence[Probe]) -> None:
    """Raise `InputError` if two probes share a name, since records could not be told apart."""
    names = [probe.name for probe in probes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"probes: names must differ, got twice: {', '.join(repeated)}; name them")


def device_of(model: Model) -> torch.device:
    """Where the model's parameters lie; the CPU for models without any."""
    network = getattr(model, "network", None)
    if isinstance(network, torch.nn.Module):
        for tensor in (*network.parameters(), *network.buffers()):
            return tensor.device
    return torch.device("cpu")


def measure(
    model: Model,
    batch: Batch,
    probe: Probe,
    seed: int,
    on_certificate: OnCertificate | None = None,
) -> tuple[list[Record], list[Failure]]:
    """Apply one probe to one batch; where that fails, to each of its cases alone.

    `on_certificate` is called with the id of each case of which something was proved, and with
    what proves it.

    Raises:
        InputError: If the plan, not a case, is at fault.
        IntegrityError: If the probe found two results that contradict each other.
    """
    try:
        with _told() as partial:
            values = _values(model, batch, probe, seed)
            beside = counted(model, batch, values) if probe.kind == "certificate" else {}
    except UnsupportedError as error:
        return _all_failed(batch, probe, error)
    except RobustbenchMedError:
        raise
    except Exception as error:
        if len(batch) == 1:
            return _all_failed(batch, probe, error)
        parts = [measure(model, batch[i], probe, seed, on_certificate) for i in range(len(batch))]
        return [r for part in parts for r in part[0]], [f for part in parts for f in part[1]]
    if on_certificate is not None and isinstance(values, Certified):
        for case_id, certificate in values.certificates:
            on_certificate(case_id, certificate)
    return list(_records(batch.case_ids, probe, {**values, **beside})), [
        Failure(case_id, probe.name, probe.kind, UnsupportedError.__name__, str(said))
        for said in partial for case_id in said.case_ids
    ]  # fmt: skip


@contextmanager
def _told() -> Iterator[list[PartialWarning]]:
    """Collect what components say they left out; let every other warning pass."""
    partial: list[PartialWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PartialWarning)
        yield partial
    for warning in caught:
        if isinstance(warning.message, PartialWarning):
            partial.append(warning.message)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def _values(model: Model, batch: Batch, probe: Probe, seed: int) -> Values:
    with _own_randomness(probe.name, batch, seed):
        values = probe.measure(model, batch, CaseRng(seed, probe.name, batch.case_ids))
    for metric, value in values.items():
        if tuple(value.shape) != (len(batch),):
            raise InputError(
                f"probe {probe.name}: metric {metric!r} must give one value per case, "
                f"expected shape ({len(batch)},), got {tuple(value.shape)}"
            )
    return values


@contextmanager
def _own_randomness(name: str, batch: Batch, seed: int) -> Iterator[None]:
    """Seed the global generators for code that draws from them, and put them back after."""
    key = hashlib.sha256(f"{seed}{name}{batch.case_ids}".encode()).digest()
    device = batch.image.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(key[:8], "little") >> 1)
        yield


def _records(case_ids: Sequence[str], probe: Probe, values: Values) -> Iterator[Record]:
    for metric, column in values.items():
        for case_id, value in zip(case_ids, column.double().tolist(), strict=True):
            yield Record(case_id, probe.name, probe.kind, probe.level, metric, value)


def _all_failed(batch: Batch, probe: Probe, error: Exception) -> tuple[list[Record], list[Failure]]:
    kind = "CaseError" if isinstance(error, CaseError) else type(error).__name__
    lines = str(error).strip().splitlines()
    message = lines[0][:500] if lines else kind
    nothing = torch.full((len(batch),), float("nan"))
    values = dict.fromkeys(expected_metrics(probe), nothing)
    records = list(_records(batch.case_ids, probe, values))
    return records, [
        Failure(case_id, probe.name, probe.kind, kind, message) for case_id in batch.case_ids
    ]


def expected_metrics(probe: Probe) -> tuple[str, ...]:
    """Metrics that a failed case is given NaN for."""
    if probe.kind == "certificate":
        return ("certified",)
    return tuple(getattr(probe.measure, "metrics", ()))


def _log_failure(failure: Failure) -> None:
    log.warning("%s on case %s: %s", failure.probe, failure.case_id, failure.message)
