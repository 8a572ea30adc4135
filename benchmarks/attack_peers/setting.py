"""A network with its cases and ball: what every tool is given."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

DICE_HELD = 0.7
"""A slice whose mean Dice stays at least this high counts as held."""


@dataclass(frozen=True)
class Setting:
    """What every tool is given.

    Attributes:
        name: Of the network.
        model: Ours; its network, without gradients in its parameters, is what peers get.
        batch: Cases.
        ball: All within bounds [0, 1].
        families: Of comparisons that are made on it.
    """

    name: str
    model: TorchModel
    batch: Batch
    ball: Ball
    families: tuple[str, ...] = ("pgd", "apgd", "ensemble")

    def rng(self, name: str) -> CaseRng:
        """Streams of our own attacks."""
        return CaseRng(0, name, self.batch.case_ids)


def frozen(model: TorchModel) -> TorchModel:
    """Spare every tool the gradients of parameters, which some would compute."""
    model.network.eval().requires_grad_(requires_grad=False)
    return model


@torch.no_grad()
def held(setting: Setting, image: Tensor) -> tuple[Tensor, Tensor | None]:
    """Which cases are still right, `(b,)`, and for a segmenter the mean Dice of each."""
    output, target = setting.model(image), setting.batch.target
    guess = output.argmax(dim=1)
    if target.ndim == 1:
        return guess == target, None
    dice = []
    for mine, truth in zip(guess, target, strict=True):
        labels = [k for k in range(1, output.shape[1]) if (truth == k).any()]
        pairs = [(mine == k, truth == k) for k in labels]
        dice.append(sum(2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs) / len(pairs))
    values = torch.stack([torch.as_tensor(value) for value in dice])
    return values >= DICE_HELD, values
