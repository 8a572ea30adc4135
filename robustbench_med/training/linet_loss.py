"""The two stages in which a LI-Net learns."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.networks.linet import LiNet
from robustbench_med.networks.whole_patients import zero_filled_slices


@dataclass(frozen=True)
class LinetLabels:
    """First stage: lower the cross-entropy of the labels that come back from their own code.

    k-space is not looked at, and the predictor stays as it is.

    Source: as `linet`.
    """

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        network = _linet("linet_labels", model, batch)
        logits = network.decoder(network.encode(batch.target))
        return model.task.loss(logits.float(), batch.target)


@dataclass(frozen=True)
class LinetCodes:
    """Second stage: bring the codes of the undersampled and of the full image to the labels' code.

    With y the labels, u the zero-filled and x the fully sampled image, and d the Euclidean
    distance of the labels' code Phi(y) from an image's code Pi, it lowers
    d(y, u) + full d(y, x) + agreement |Pi(x) - Pi(u)| + entropy CE(y, Psi(Pi(u))).
    Encoder and decoder stay as they are. Start from the weights of the first stage.

    Attributes:
        full: Weight of the fully sampled image's distance.
        agreement: Weight of the distance of both images' codes.
        entropy: Weight of the cross-entropy.

    Source: as `linet`. The weights are this project's choice.
    """

    full: float = 1.0
    agreement: float = 1.0
    entropy: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise InputError(
                    f"linet_codes: {field.name} must be finite, at least 0, got {value!r}"
                )

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        network = _linet("linet_codes", model, batch)
        if "full" not in batch.context:
            raise InputError(
                "train: loss 'linet_codes' needs the fully sampled image `full` in the cases' "
                f"context, which has {', '.join(batch.context) or 'nothing'}; synthetic_cine has "
                "it in the task kspace_segmentation"
            )
        with torch.no_grad():
            labels = network.encode(batch.target)
        zero_filled = zero_filled_slices("linet", batch.image, batch.context)
        seen = network.predictor(zero_filled)
        whole = network.predictor(batch.context["full"])
        entropy = model.task.loss(_frozen(network.decoder, seen).float(), batch.target)
        return (
            distance(labels, seen)
            + self.full * distance(labels, whole)
            + self.agreement * distance(whole, seen)
            + self.entropy * entropy
        )


def distance(code: Tensor, other: Tensor) -> Tensor:
    """Euclidean distance of codes `(b, n)`, each case's, `(b,)`."""
    found: Tensor = torch.linalg.vector_norm(code.float() - other.float(), dim=1)
    return found


def _frozen(module: nn.Module, values: Tensor) -> Tensor:
    """Answer of a module through which gradients go, but that gets none itself."""
    weights = {name: tensor.detach() for name, tensor in module.named_parameters()}
    answer: Tensor = functional_call(module, weights, (values,))
    return answer


def _linet(loss: str, model: TorchModel, batch: Batch) -> LiNet:
    if not isinstance(model.network, LiNet):
        raise InputError(
            f"train: loss {loss!r} is for the network linet, got {type(model.network).__name__}"
        )
    if batch.target.ndim != 3:
        raise InputError(
            f"train: loss {loss!r} needs single slices, labels (b, h, w), got "
            f"{tuple(batch.target.shape)}; train it on the task kspace_segmentation"
        )
    return model.network
