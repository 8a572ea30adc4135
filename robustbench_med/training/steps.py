"""The steps of one epoch, and the loss on cases that are not learned from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.streams import CaseRng
from robustbench_med.training.augment import flip
from robustbench_med.training.distributed import apart
from robustbench_med.training.divergence import Watch, refuse_lost_weights
from robustbench_med.training.loading import Loader, Part
from robustbench_med.training.seeding import order_of
from robustbench_med.training.session import Session, is_mixed

T = TypeVar("T")
LEARNED, HELD_OUT = 0, 1
LOOK_EVERY = 16
"""Steps between two looks at the losses, where looking makes one wait for others."""


@dataclass(frozen=True)
class Progress:
    """How far an epoch is.

    Attributes:
        epoch: Counted from 1.
        cases: Learned from in this epoch, by all processes.
        of: In the cohort.
    """

    epoch: int
    cases: int
    of: int


def one_epoch(
    session: Session,
    loader: Loader,
    cases: int,
    epoch: int,
    on_step: Callable[[Progress], None] | None,
) -> float:
    """Learn from every case once, and return the mean loss that the cases had before their step.

    Raises:
        DivergedError: If a loss or a weight stops being a number.
    """
    settings, processes = session.settings, session.processes
    alone = session.device.type == "cpu" and processes.count == 1
    watch, done = Watch(epoch, processes), 0
    session.model.network.train()
    parts = loader.parts(LEARNED, order_of(settings.seed, epoch, cases))
    for step, together in enumerate(_in_groups(parts, settings.accumulate), start=1):
        for part, losses in zip(together, _step(session, together, epoch), strict=True):
            if part.counts:
                watch.add(step, part.batch, losses)
        if alone or step % LOOK_EVERY == 0:
            watch.look()
        done += sum(part.cases for part in together)
        if on_step is not None:
            on_step(Progress(epoch, done, cases))
    watch.look()
    refuse_lost_weights(session.model.network, epoch)
    return processes.total(watch.total) / cases


@torch.no_grad()
def validate(session: Session, loader: Loader, cases: int) -> float:
    """Mean loss of held-out cases, the network in evaluation mode.

    Raises:
        InputError: If it is no number.
    """
    session.model.network.eval()
    total = 0.0
    for part in loader.parts(HELD_OUT, range(cases)):
        if part.counts:
            total += session.losses(part.batch.to(session.device)).sum().item()
    mean = session.processes.total(total) / cases
    if not math.isfinite(mean):
        raise InputError(f"train: validation loss is {mean}; look at the validation cases")
    return mean


def _step(session: Session, parts: Sequence[Part], epoch: int) -> list[Tensor]:
    """One step of the optimiser; returns each part's losses `(b,)`."""
    network, mixed = session.model.network, is_mixed(session.settings, session.device)
    cases = sum(part.cases for part in parts)
    found = []
    session.optimiser.zero_grad(set_to_none=True)
    for number, part in enumerate(parts, start=1):
        batch = _prepared(session, part.batch.to(session.device), epoch)
        with apart(session.spread, last=number == len(parts)):
            with torch.autocast(session.device.type) if mixed else nullcontext():
                losses: Tensor = session.spread(batch)
            # Processes average their gradients: each one's share is weighed up to a sum.
            share = losses.sum() / (cases / session.processes.count)
            session.scaler.scale(share if part.counts else 0 * share).backward()  # type: ignore[no-untyped-call]
        found.append(losses.detach())
    if session.settings.clip is not None:
        session.scaler.unscale_(session.optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), session.settings.clip)
    session.scaler.step(session.optimiser)
    session.scaler.update()
    if session.average is not None:
        session.average.update(network)
    return found


def _prepared(session: Session, batch: Batch, epoch: int) -> Batch:
    """The batch as it is learned from: augmented, then made harder."""
    settings = session.settings
    name = f"train/{epoch}"
    if settings.augment == "flip":
        batch = flip(batch, CaseRng(settings.seed, f"{name}/flip", batch.case_ids))
    if settings.defence is None or not callable(settings.defence):
        return batch
    session.model.network.eval()
    rng = CaseRng(settings.seed, f"{name}/defence", batch.case_ids)
    harder = settings.defence(session.model, batch, rng)
    session.model.network.train()
    return harder


def _in_groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
