"""What training lowers: one value per case, of the model and the whole batch."""

from typing import Protocol

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch, Cohort
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.training.dice_ce import DiceCe
from robustbench_med.training.settings import TrainSettings


class Loss(Protocol):
    """What training lowers; a frozen dataclass of settings.

    It asks the model itself, so it may use what is inside `model.network`, and all that a batch
    holds: the context, and the case ids. On CUDA it runs in mixed precision: outputs may be in
    half precision (`.float()`). Parameters of its own are not trained.
    """

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """Return one value per case, `(b,)`, that gradients flow from into the network."""
        ...


class Losses(nn.Module):
    """A loss with its network, as one module: all that one step of training calls.

    A module, because what spreads a step over processes looks at one module's call.
    """

    def __init__(self, model: TorchModel, loss: Loss) -> None:
        """Join both; the network stays where it is."""
        super().__init__()
        self.network = model.network
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Tensor:
        """Losses of a batch, `(b,)`, float32.

        Raises:
            InputError: If the loss does not give one value per case.
        """
        losses: object = self.loss(self.model, batch)
        if not isinstance(losses, Tensor) or losses.shape != (len(batch),):
            got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            name = getattr(self.loss, "__name__", type(self.loss).__name__)
            raise InputError(
                f"train: loss {name}: expected one value per case, ({len(batch)},), got {got}"
            )
        return losses.float()


def objective(cohort: Cohort, settings: TrainSettings) -> Loss:
    """Return the loss that `settings` ask for.

    Balanced class weights read the target of every case once.

    Raises:
        InputError: If the loss or the class weights do not fit the cohort's task.
    """
    loss = _loss(settings)
    kind = cohort.task.kind
    if isinstance(loss, DiceCe) and kind != "segmentation":
        raise InputError(f"train: loss 'dice_ce' needs a segmentation task, got {kind}")
    if settings.class_weights == "none":
        return loss
    if kind != "classification":
        raise InputError(f"train: class_weights 'balanced' needs a classification task, got {kind}")
    weights = balanced_weights(cohort)

    def weighted(model: TorchModel, batch: Batch) -> Tensor:
        losses = loss(model, batch)
        return losses * weights.to(losses)[batch.target]

    return weighted


def task_loss(model: TorchModel, batch: Batch) -> Tensor:
    """The task's own loss. See `Loss`."""
    return model.task.loss(model(batch.image, batch.context).float(), batch.target)


def balanced_weights(cohort: Cohort) -> Tensor:
    """Weight of each class, `(k,)`: cases over classes times cases of the class.

    The mean weight of the cases is 1 where no class is empty.
    """
    targets = torch.stack([case.target for case in cohort.cases]).long()
    count = targets.bincount(minlength=len(cohort.task.classes))
    return len(targets) / (len(count) * count.clamp(min=1))


def _loss(settings: TrainSettings) -> Loss:
    if settings.loss == "task":
        return task_loss
    return DiceCe() if settings.loss == "dice_ce" else settings.loss  # type: ignore[return-value]
