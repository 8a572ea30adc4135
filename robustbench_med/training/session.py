"""A training under way: what its epochs share, and what its checkpoints keep."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.training import checkpoint
from robustbench_med.training.augment import check_flip
from robustbench_med.training.averaging import Average
from robustbench_med.training.card import cohort_digest
from robustbench_med.training.checkpoint import Checkpoint, Kept, Row
from robustbench_med.training.distributed import Processes, here
from robustbench_med.training.objective import Losses, objective
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.starting import start_from
from robustbench_med.training.weights import network_digest

MOMENTUM = 0.9


@dataclass(frozen=True)
class Session:
    """What the epochs of one training share.

    Attributes:
        settings: Of the training.
        model: Whose network is trained.
        losses: The network and its loss.
        spread: The same, as a step calls it: spread over the processes.
        optimiser: Of the network's parameters.
        scaler: Of the loss, in mixed precision.
        device: Where the network is.
        average: Of the weights, if settings ask for one.
        processes: That train together.
    """

    settings: TrainSettings
    model: TorchModel
    losses: Losses
    spread: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    average: Average | None
    processes: Processes


def begin(
    network: nn.Module, cohort: Cohort, settings: TrainSettings, device: torch.device
) -> Session:
    """Check that all fits together, and move the network to where it is trained."""
    if len(cohort) == 0:
        raise InputError(f"train: cohort {cohort.name!r}: expected at least 1 case, got 0")
    if next(network.parameters(), None) is None:
        raise InputError(
            "train: the network has no parameters; leave [train] and weights out of the plan"
        )
    if settings.augment == "flip":
        check_flip(cohort)
    if settings.start is not None:
        start_from(network, Path(settings.start), settings.start_except)
    model = TorchModel(network.to(device), cohort.task, cohort.bounds)
    losses, processes = Losses(model, objective(cohort, settings)), here()
    return Session(
        settings=settings,
        model=model,
        losses=losses,
        spread=processes.spread(losses),
        optimiser=_optimiser(network, settings),
        scaler=torch.amp.GradScaler("cuda", enabled=device.type == "cuda"),
        device=device,
        average=None if settings.average is None else Average(settings.average),
        processes=processes,
    )


def identity(session: Session, cohort: Cohort, validation: Cohort | None) -> dict[str, object]:
    """All that decides the weights after an epoch; the network must be as it was built."""
    settings = session.settings
    told = settings.described() | {
        "cohort": cohort_digest(cohort),
        "initial network": network_digest(session.model.network),
        "processes": session.processes.count,
    }
    if settings.schedule == "constant":
        del told["epochs"]  # more epochs continue the same training
    del told["validation"]  # the split's name; its cases decide only when to stop
    if settings.patience is not None and validation is not None:
        told["validation"] = cohort_digest(validation)
    return told


def resume(
    session: Session, folder: Path, needed: Mapping[str, object]
) -> tuple[list[Row], Kept | None]:
    """Put the checkpoint in `folder`, if there is one, into the session.

    Returns:
        The curve so far, and the weights of the lowest validation loss if they are kept.
    """
    found = checkpoint.load(folder)
    if found is None:
        return [], None
    checkpoint.refuse_another(folder, found, needed)
    if len(found.curve) > session.settings.epochs:
        raise InputError(
            f"{folder}: the checkpoint there is at epoch {len(found.curve)}, beyond epochs = "
            f"{session.settings.epochs}; ask for more epochs, or delete the folder to start anew"
        )
    session.model.network.load_state_dict(found.kept["epoch"].weights)
    session.optimiser.load_state_dict(found.optimiser)
    if found.scaler:  # a checkpoint from a CPU has none
        session.scaler.load_state_dict(found.scaler)
    if session.average is not None:
        session.average.resume(found.kept["average"].weights, found.steps, session.device)
    return found.curve, found.kept.get("best")


def snapshot(
    session: Session, needed: Mapping[str, object], curve: list[Row], best: Kept | None
) -> Checkpoint:
    """What a checkpoint keeps of the session."""
    kept = {"epoch": Kept(len(curve), session.model.network.state_dict())}
    if session.average is not None:
        kept["average"] = Kept(len(curve), session.average.weights)
    if best is not None:
        kept["best"] = best
    return Checkpoint(
        needed,
        curve,
        kept,
        session.optimiser.state_dict(),
        session.scaler.state_dict(),
        session.average.steps if session.average is not None else 0,
    )


def _optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        network.parameters(), lr=rate, weight_decay=decay, momentum=MOMENTUM, nesterov=True
    )
