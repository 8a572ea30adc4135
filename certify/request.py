"""What is to be proved about each case of a batch, and how; shared by every bound method."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_med.cases import Batch
from robustbench_med.certify.ladder import Rung
from robustbench_med.certify.margin import SparseRows, class_margins, sign_margins
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel
from robustbench_med.threat import Ball


def check_slack(name: str, slack: float) -> None:
    """Refuse a slack that is negative or not finite."""
    if not (math.isfinite(slack) and slack >= 0):
        raise InputError(f"{name}: slack must be finite and at least 0, got {slack}")


@dataclass(frozen=True)
class Request:
    """What is to be proved about each case of a batch, and how.

    Attributes:
        model: Answers classification, multilabel or segmentation.
        batch: The cases.
        ball: The images around each of them.
        method: Tightest bounds to use.
        slack: Smallest margin that counts, relative to 1 + the largest output at the centre.
    """

    model: Model
    batch: Batch
    ball: Ball
    method: Rung
    slack: float


def network_of(model: Model) -> nn.Module:
    """Return the network of a model that has one.

    Raises:
        UnsupportedError: If it has none, or one that takes context.
    """
    if not isinstance(model, TorchModel):
        raise UnsupportedError(f"certify: needs a torch network, got a {type(model).__name__}")
    if "context" in inspect.signature(model.network.forward).parameters:
        raise UnsupportedError("certify: a network that takes context cannot be bounded yet")
    return model.network


def margins_of(model: Model) -> Callable[[Tensor, Tensor], SparseRows]:
    """Return what turns outputs and truth into margins.

    Raises:
        UnsupportedError: If the task has none.
    """
    kind = model.task.kind
    if kind == "multilabel":
        return sign_margins
    if kind in ("classification", "segmentation"):
        return class_margins
    raise UnsupportedError(f"certify: no margin is defined for the task {kind}")


@dataclass(frozen=True)
class Claim:
    """Margins of one case that are to be proved positive, grouped by what they decide.

    Attributes:
        rows: `units * each` rows.
        right: `(units,)`, where the clean image gets the true answer.
        scale: 1 + the largest output at the centre.
    """

    rows: SparseRows
    right: Tensor
    scale: float


def claim_of(
    output: Tensor, target: Tensor, margins: Callable[[Tensor, Tensor], SparseRows]
) -> Claim:
    """Say what has to stay positive so that a case keeps its true answer.

    Raises:
        CaseError: If an output is not finite, or the target no class of the model's.
    """
    if not output.isfinite().all():
        raise CaseError("the model's output is not finite")
    target = target.to(output.device)
    flags = margins is sign_margins
    expected = output.shape if flags else output.shape[1:]
    if target.shape != expected:
        raise CaseError(f"the target must be {tuple(expected)}, got {tuple(target.shape)}")
    if not flags and not (target.min() >= 0 and target.max() < len(output)):
        raise CaseError(f"the target holds class {int(target.max())}, the model has {len(output)}")
    right = (output > 0) == (target > 0) if flags else output.argmax(dim=0) == target
    scale = 1 + float(output.abs().max())
    return Claim(margins(output, target.long()), right.flatten(), scale)
