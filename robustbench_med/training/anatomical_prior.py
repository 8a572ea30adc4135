"""ACNN-Seg's loss: cross-entropy, and a code like that of the true anatomy."""

import math
from dataclasses import dataclass

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.networks.label_code import one_hot
from robustbench_med.training.tl_prior import code_distance, middle, tl_prior


@dataclass(frozen=True)
class AnatomicalPrior:
    """Lower the task's loss plus `lam` times the squared distance of codes.

    The codes are those that the encoder of a trained T-L network, which does not learn, gives the
    probabilities of the answer and the truth. Of whole patients, each slice has a code and the
    distance is their mean; of slices larger than the T-L network's, the middle has.

    Attributes:
        weights: File of the T-L network, its model card beside it; classes are those of the task.
        lam: The paper's lambda 1, at least 0. What it does depends on how the T-L network spreads
            its codes: choose it anew for each, from 0.001, 0.01 and 0.1.

    Raises:
        InputError: If `lam` is out of range; when called, if network, task and T-L network do not
            fit together.

    Source: Oktay et al., IEEE TMI 37 (2018), section on segmentation with a shape prior,
    arXiv:1705.08302. The paper's third term, half lambda 2 times the squared weights, is
    `weight_decay` in `[train]`. Deviation: we could not confirm the paper's lambdas; the default
    is this project's.
    """

    weights: str
    lam: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.lam < math.inf:
            raise InputError(f"anatomical_prior: lam must be at least 0, got {self.lam!r}")

    def __call__(self, model: TorchModel, batch: Batch) -> Tensor:
        """See `Loss`."""
        prior, task = tl_prior(self.weights, batch.image.device)
        if task != model.task:
            raise InputError(
                f"anatomical_prior: its T-L network is for {task}, the training for {model.task}"
            )
        output = model(batch.image, batch.context).float()
        given, true = (
            middle("anatomical_prior", maps, prior.grid)
            for maps in (output.softmax(dim=1), one_hot(batch.target, prior.classes))
        )
        far = code_distance(prior.encode, given, true)
        return model.task.loss(output, batch.target) + self.lam * far
