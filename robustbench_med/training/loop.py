"""The training loop: epochs over a cohort, a checkpoint after each."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch, Cohort, batches
from robustbench_med.errors import InputError
from robustbench_med.model import Model, TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.training import checkpoint
from robustbench_med.training.augment import check_flip, flip
from robustbench_med.training.card import cohort_digest
from robustbench_med.training.checkpoint import Checkpoint, Row
from robustbench_med.training.objective import Losses, objective
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import network_digest

MOMENTUM = 0.9


class Defence(Protocol):
    """Replaces each training batch by a harder one; the model is in evaluation mode."""

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Batch:
        """Return the batch to learn from, same cases in the same order."""
        ...


@dataclass(frozen=True)
class _Training:
    model: TorchModel
    cohort: Cohort
    settings: TrainSettings
    losses: Losses
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device


def train(  # noqa: PLR0913
    network: nn.Module,
    cohort: Cohort,
    settings: TrainSettings,
    *,
    folder: Path,
    device: str = "cpu",
    validation: Cohort | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Train `network` in place, continuing the checkpoint in `folder` if there is one.

    A training that was interrupted and continued ends in the same weights, to the bit on one
    CPU, as one that was not. On CUDA it runs in mixed precision. The global random state is
    left as it was, and the network in evaluation mode.

    Args:
        network: Built with the same seed each time; moved to `device`.
        cohort: Every case is seen once an epoch.
        settings: See `TrainSettings`.
        folder: Holds the checkpoint; made if it is not there.
        device: A torch device.
        validation: Scored after each epoch; never learned from.
        on_epoch: Called with each new row of the curve, after its checkpoint is written.

    Returns:
        The curve, a row per epoch: `epoch`, `loss` (mean per case), `seconds` and, with a
        validation cohort, `validation_loss`.

    Raises:
        InputError: If settings and cohort do not fit, the network has nothing to train, the
            checkpoint is another training's, or the loss stops being a number.
    """
    training = _begin(network, cohort, settings, torch.device(device))
    identity = _identity(training)
    curve = _continue(training, folder, identity)
    for epoch in range(len(curve) + 1, settings.epochs + 1):
        started = time.perf_counter()
        with _seeded(settings.seed, epoch, training.device):
            row: Row = {"epoch": epoch, "loss": _one_epoch(training, epoch)}
        if validation is not None:
            row["validation_loss"] = _validate(training, validation)
        curve.append(row | {"seconds": round(time.perf_counter() - started, 3)})
        checkpoint.save(folder, _snapshot(training, identity, curve))
        if on_epoch is not None:
            on_epoch(curve[-1])
    network.eval()
    return curve


def _begin(
    network: nn.Module, cohort: Cohort, settings: TrainSettings, device: torch.device
) -> _Training:
    if len(cohort) == 0:
        raise InputError(f"train: cohort {cohort.name!r}: expected at least 1 case, got 0")
    if next(network.parameters(), None) is None:
        raise InputError(
            "train: the network has no parameters; leave [train] and weights out of the plan"
        )
    if settings.augment == "flip":
        check_flip(cohort)
    model = TorchModel(network.to(device), cohort.task, cohort.bounds)
    scaler = torch.amp.GradScaler("cuda", enabled=device.type == "cuda")
    losses = Losses(model, objective(cohort, settings))
    return _Training(model, cohort, settings, losses, _optimiser(network, settings), scaler, device)


def _optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        network.parameters(), lr=rate, weight_decay=decay, momentum=MOMENTUM, nesterov=True
    )


def _identity(training: _Training) -> dict[str, object]:
    settings = training.settings.described()
    del settings["epochs"]  # more epochs continue the same training
    return {
        **settings,
        "cohort": cohort_digest(training.cohort),
        "initial network": network_digest(training.model.network),
    }


def _continue(training: _Training, folder: Path, identity: Mapping[str, object]) -> list[Row]:
    found = checkpoint.load(folder)
    if found is None:
        return []
    checkpoint.refuse_another(folder, found.identity, identity)
    if len(found.curve) > training.settings.epochs:
        raise InputError(
            f"{folder}: the checkpoint there is at epoch {len(found.curve)}, beyond epochs = "
            f"{training.settings.epochs}; ask for more epochs, or delete the folder to start anew"
        )
    training.model.network.load_state_dict(found.weights)
    training.optimiser.load_state_dict(found.optimiser)
    if found.scaler:  # a checkpoint from a CPU has none
        training.scaler.load_state_dict(found.scaler)
    return found.curve


def _snapshot(training: _Training, identity: Mapping[str, object], curve: list[Row]) -> Checkpoint:
    weights = training.model.network.state_dict()
    optimiser, scaler = training.optimiser.state_dict(), training.scaler.state_dict()
    return Checkpoint(identity, curve, weights, optimiser, scaler)


def _one_epoch(training: _Training, epoch: int) -> float:
    settings, cohort = training.settings, training.cohort
    generator = torch.Generator().manual_seed(_seed(settings.seed, epoch, "order"))
    order = torch.randperm(len(cohort), generator=generator).tolist()
    total = 0.0
    for batch in batches(cohort.cases, order, settings.batch_size):
        harder = _prepare(training, batch.to(training.device), epoch)
        loss = _step(training, harder)
        if not math.isfinite(loss):
            _refuse_divergence(batch, loss, epoch, settings)
        total += loss * len(batch)
    return total / len(cohort)


def _refuse_divergence(batch: Batch, loss: float, epoch: int, settings: TrainSettings) -> None:
    for case_id, image in zip(batch.case_ids, batch.image, strict=True):
        if not image.isfinite().all():
            raise InputError(
                f"case {case_id!r}: image: expected finite voxels, got NaN or infinity"
            )
    raise InputError(
        f"training diverged at epoch {epoch}: loss is {loss}; lower learning_rate "
        f"({settings.learning_rate:g}) and delete the checkpoint, if any, to start anew"
    )


def _prepare(training: _Training, batch: Batch, epoch: int) -> Batch:
    settings = training.settings
    rng = CaseRng(settings.seed, f"train/{epoch}", batch.case_ids)
    if settings.augment == "flip":
        batch = flip(batch, rng.child("flip"))
    if settings.defence is None or isinstance(settings.defence, Mapping):
        return batch
    training.model.network.eval()
    return settings.defence(training.model, batch, rng.child("defence"))


def _step(training: _Training, batch: Batch) -> float:
    training.model.network.train()
    training.optimiser.zero_grad(set_to_none=True)
    kind = training.device.type
    with torch.autocast(kind, enabled=kind == "cuda"):
        losses: Tensor = training.losses(batch)
    loss = losses.mean()
    training.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    training.scaler.step(training.optimiser)
    training.scaler.update()
    return loss.item()


@torch.no_grad()
def _validate(training: _Training, cohort: Cohort) -> float:
    training.model.network.eval()
    total = 0.0
    for batch in cohort.batches(training.settings.batch_size):
        total += training.losses(batch.to(training.device)).sum().item()
    return total / len(cohort)


def _seed(seed: int, epoch: int, what: str) -> int:
    key = f"{seed}/{epoch}/{what}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed what a network draws itself (dropout), and put the global state back after.

    Drawn anew from the epoch's number, so a checkpoint needs no random state.
    """
    devices = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        number = _seed(seed, epoch, "network")
        torch.default_generator.manual_seed(number)
        if devices:
            torch.cuda.manual_seed_all(number)
        yield
