"""ACNN-SR's loss: smooth L1, and slices that predict the anatomy that the true ones predict."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.training.tl_prior import code_distance, middle, tl_prior


@dataclass(frozen=True)
class SrPrior:
    """Lower smooth L1 plus `lam` times the squared distance of codes.

    The codes are those that the predictor of a trained T-L network, which does not learn, gives
    the images of the answer and the truth. Every thin slice is one image: stacks
    `(b, 1, z, h, w)` become `b z` slices, the middle of each is cut to the T-L network's size, and
    the distance is the mean over a case's slices. Pixels should be as large as in the T-L
    network's training.

    Attributes:
        weights: File of the T-L network, its model card beside it; may be left out if `lam` is 0.
        lam: The paper's lambda 1, at least 0; 0 leaves smooth L1 alone. What it does depends on
            how the T-L network spreads its codes: choose it anew for each.
        beta: Error, in units of intensity, up to which smooth L1 is quadratic. With errors below
            1 and a beta of 1 it is half the squared error.

    Raises:
        InputError: If a number is out of range, or weights are missing; when called, if they are
            not of a T-L network that fits.

    Source: Oktay et al., IEEE TMI 37 (2018), section on super-resolution, arXiv:1705.08302; smooth
    L1: Girshick, ICCV 2015, equation 3, arXiv:1504.08083. The paper's penalty of squared weights
    is `weight_decay` in `[train]`. Deviation: we could not confirm the paper's lambdas; the
    default is this project's. The predictor learned thick slices, and is shown thin ones.
    """

    weights: str | None = None
    lam: float = 0.001
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.lam < math.inf:
            raise InputError(f"sr_prior: lam must be at least 0, got {self.lam!r}")
        if not 0 < self.beta < math.inf:
            raise InputError(f"sr_prior: beta must be above 0, got {self.beta!r}")
        if self.weights is None and self.lam > 0:
            raise InputError("sr_prior: expected weights = FILE of a tl_network, unless lam = 0")

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        if model.task.kind != "super_resolution":
            raise InputError(f"sr_prior: needs a super_resolution task, got {model.task.kind}")
        output = model(batch.image, batch.context).float()
        errors = F.smooth_l1_loss(output, batch.target, reduction="none", beta=self.beta)
        near = errors.flatten(start_dim=1).mean(dim=1)
        if self.weights is None:
            return near
        prior, _ = tl_prior(self.weights, batch.image.device)
        given, true = (middle("sr_prior", m, prior.grid) for m in (output, batch.target))
        return near + self.lam * code_distance(prior.predict, given, true)
