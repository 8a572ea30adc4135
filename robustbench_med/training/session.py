"""A training under way: what its epochs share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.training.augment import check_flip
from robustbench_med.training.averaging import Average
from robustbench_med.training.distributed import Processes, here
from robustbench_med.training.objective import Losses, objective
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.starting import start_from

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
    network: nn.Module, cohorts: Sequence[Cohort], settings: TrainSettings, device: torch.device
) -> Session:
    """Check that all fits together, and move the network to where it is trained.

    Args:
        network: As built.
        cohorts: The one to learn from; then, where there is one, the one to validate on.
        settings: Of the training.
        device: Where to train.
    """
    cohort = cohorts[0]
    for each in cohorts:
        if len(each) == 0:
            raise InputError(f"train: cohort {each.name!r}: expected at least 1 case, got 0")
    if settings.patience is not None and len(cohorts) == 1:
        raise InputError("train: patience needs validation cases to wait for")
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
        scaler=torch.amp.GradScaler("cuda", enabled=is_mixed(settings, device)),
        device=device,
        average=None if settings.average is None else Average(settings.average),
        processes=processes,
    )


def is_mixed(settings: TrainSettings, device: torch.device) -> bool:
    """Whether steps are in mixed precision."""
    return settings.precision == "mixed" and device.type == "cuda"


def _optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        network.parameters(), lr=rate, weight_decay=decay, momentum=MOMENTUM, nesterov=True
    )
