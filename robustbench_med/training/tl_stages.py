"""The three stages in which a T-L network learns."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.networks.label_code import one_hot
from robustbench_med.networks.tl_network import TlNetwork


@dataclass(frozen=True)
class LabelAutoencoder:
    """First stage: lower the cross-entropy of the true segmentation, through its own code.

    The image is not looked at, and the predictor stays as it is.

    Source: as `tl_network`.
    """

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        network = _tl_network("label_autoencoder", model)
        code = network.encode(one_hot(batch.target, network.classes))
        return model.task.loss(network.decoder(code).float(), batch.target)


@dataclass(frozen=True)
class CodeDistance:
    """Second stage: bring the image's code near that of its true segmentation.

    Lowers the squared Euclidean distance. Encoder and decoder stay as they are.

    Source: as `tl_network`.
    """

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        network = _tl_network("code_distance", model)
        with _at_rest(network.encoder):
            aim = network.encode(one_hot(batch.target, network.classes))
        return squared_distance(network.predict(batch.image), aim)


@dataclass(frozen=True)
class CodeJoint:
    """Third stage: the first stage's loss, plus the second's, now with an encoder that moves too.

    So the code becomes one that can be both decoded and predicted.

    Attributes:
        weight: Of the squared distance, at least 0.

    Source: as `tl_network`. Deviation: the weight of the two terms is this project's choice.
    """

    weight: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InputError(f"code_joint: weight must be at least 0, got {self.weight!r}")

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        network = _tl_network("code_joint", model)
        code = network.encode(one_hot(batch.target, network.classes))
        entropy = model.task.loss(network.decoder(code).float(), batch.target)
        return entropy + self.weight * squared_distance(network.predict(batch.image), code)


def squared_distance(code: Tensor, other: Tensor) -> Tensor:
    """Squared Euclidean distance of codes `(b, n)`, each case's, `(b,)`."""
    return (code.float() - other.float()).square().sum(dim=1)


def _tl_network(loss: str, model: TorchModel) -> TlNetwork:
    if not isinstance(model.network, TlNetwork):
        raise InputError(
            f"train: loss {loss!r} is for the network tl_network, got "
            f"{type(model.network).__name__}"
        )
    if model.task.kind != "segmentation":
        raise InputError(f"train: loss {loss!r} needs a segmentation task, got {model.task.kind}")
    return model.network


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """No gradients, and no statistics gathered by a normalisation."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
