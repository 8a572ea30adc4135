"""The training loop: epochs over a cohort, a checkpoint after each."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from robustbench_med.cases import Cohort
from robustbench_med.training import checkpoint
from robustbench_med.training.averaging import copied, standing_in
from robustbench_med.training.checkpoint import Kept, Row
from robustbench_med.training.divergence import DivergedError
from robustbench_med.training.early_stop import best_epoch, is_over
from robustbench_med.training.loading import Loader, loader
from robustbench_med.training.resuming import identity, resume, snapshot
from robustbench_med.training.schedule import learning_rate, set_learning_rate
from robustbench_med.training.seeding import seeded
from robustbench_med.training.session import Session, begin
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.steps import Progress, one_epoch, validate
from robustbench_med.training.weights import Weights
from robustbench_med.training.workers import reading


def train(  # noqa: PLR0913
    network: nn.Module,
    cohort: Cohort,
    settings: TrainSettings,
    *,
    folder: Path,
    device: str = "cpu",
    validation: Cohort | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[Progress], None] | None = None,
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
        on_step: Called after each step.

    Returns:
        The curve, a row per epoch: `epoch`, `loss` (mean per case), `seconds`; with a validation
        cohort `validation_loss`; where training may stop early `best_epoch`, that of the lowest
        validation loss so far; under a schedule `learning_rate`.

    Raises:
        InputError: If settings and cohort do not fit, the network has nothing to train, the
            checkpoint is another training's, or the loss stops being a number.
        DivergedError: An `InputError`; the weights of the last finished epoch are kept.
        IncompleteError: If a worker process is ended from outside.
    """
    cohorts = [cohort] if validation is None else [cohort, validation]
    session = begin(network, cohorts, settings, torch.device(device))
    needed = identity(session, cohorts)
    curve, best = resume(session, folder, needed)
    workers = 0 if _is_done(curve, settings) else settings.workers
    with reading(cohorts, workers) as reads:
        load = loader(reads, cohorts, settings.batch_size, session.processes)
        sizes = [len(each) for each in cohorts]
        while not _is_done(curve, settings):
            with _advised(session, folder, len(curve)):
                curve.append(_learn(session, load, sizes, curve, on_step))
            if curve[-1].get("best_epoch") == len(curve):
                best = Kept(len(curve), copied(_answering(session)))
            if session.processes.rank == 0:
                checkpoint.save(folder, snapshot(session, needed, curve, best))
            if on_epoch is not None:
                on_epoch(curve[-1])
    network.load_state_dict(_answering(session) if best is None else best.weights)
    network.eval()
    return curve


def _is_done(curve: Sequence[Row], settings: TrainSettings) -> bool:
    return len(curve) >= settings.epochs or is_over(curve, settings.patience)


def _learn(
    session: Session,
    load: Loader,
    sizes: Sequence[int],
    curve: Sequence[Row],
    on_step: Callable[[Progress], None] | None,
) -> Row:
    """Go through one epoch and return its row of the curve."""
    settings, epoch, started = session.settings, len(curve) + 1, time.perf_counter()
    rate = learning_rate(settings, epoch)
    set_learning_rate(session.optimiser, rate)
    with seeded(settings.seed, epoch, session.device, session.processes.rank):
        row: Row = {"epoch": epoch, "loss": one_epoch(session, load, sizes[0], epoch, on_step)}
    if settings.schedule != "constant":
        row["learning_rate"] = rate
    if len(sizes) > 1:
        with standing_in(session.model.network, _averaged(session)):
            row["validation_loss"] = validate(session, load, sizes[1])
    if settings.patience is not None:
        row["best_epoch"] = best_epoch([*curve, row])
    return row | {"seconds": round(time.perf_counter() - started, 3)}


def _averaged(session: Session) -> Weights | None:
    return None if session.average is None else session.average.weights


def _answering(session: Session) -> Weights:
    """The weights that are validated and kept: the average, where there is one."""
    return _averaged(session) or session.model.network.state_dict()


@contextmanager
def _advised(session: Session, folder: Path, finished: int) -> Iterator[None]:
    """Say what can be done about a training that diverges, and set aside what it can go on from."""
    try:
        yield
    except DivergedError as error:
        advice = f"{error}; lower learning_rate ({session.settings.learning_rate:g})"
        aside = checkpoint.set_aside(folder) if session.processes.rank == 0 else None
        if aside is not None:
            advice += (
                f"; the weights after epoch {finished} are kept in {aside}: to go on from them, "
                f'delete {folder} and set start = "{aside}" in [train]'
            )
        raise DivergedError(advice) from error
