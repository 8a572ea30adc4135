"""The learning rate of each epoch."""

import math

import torch

from robustbench_med.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, epoch: int) -> float:
    """Learning rate of an epoch, counted from 1.

    "cosine" falls along half a cosine from the full rate in the first epoch towards 0 after the
    last one.

    Source: Loshchilov and Hutter, ICLR 2017, equation 5, arXiv:1608.03983. Deviations: no
    restart, and one value per epoch.
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (epoch - 1) / settings.epochs
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let the optimiser go on at `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate
