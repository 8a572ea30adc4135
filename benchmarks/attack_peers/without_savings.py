"""PGD without a library, and AutoAttack without its savings."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from attack_peers.setting import Setting, held
from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import Toward
from robustbench_med.attacks.ascent import Ascent, at_edge, continued, untouched
from robustbench_med.attacks.fab import Fab, _Walk
from robustbench_med.attacks.margins import CrossEntropy, Margin, easiest
from robustbench_med.attacks.objective import Objective
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


def bare(steps: int, setting: Setting) -> Tensor:
    """PGD as one would write it without a library: the last iterate, no extras."""
    clean, target, eps = setting.batch.image, setting.batch.target, setting.ball.eps
    image = (clean + eps * (2 * torch.rand_like(clean) - 1)).clamp(0, 1)
    for _ in range(steps):
        image = image.detach().requires_grad_()
        loss = F.cross_entropy(setting.model(image), target, reduction="sum")
        slope = torch.autograd.grad(loss, image)[0]
        image = image.detach() + 0.1 * eps * slope.sign()
        image = torch.minimum(torch.maximum(image, clean - eps), clean + eps).clamp(0, 1)
    return image.detach()


@dataclass(frozen=True)
class Whole:
    """An objective that is raised to the last step: a wrong answer ends nothing."""

    goal: Objective

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`."""
        return self.goal(output, batch, task)


def plain(setting: Setting) -> Tensor:
    """The parts of AutoAttack one after the other, each on every case and to its end."""
    clean, rng = setting.batch.image, setting.rng("plain")
    steps = (
        lambda: Apgd(objective=Whole(CrossEntropy()))(*_four(setting, rng)),
        lambda: _targeted(setting, rng),
        *(partial(_planes, setting, aim) for aim in _aims(setting)),
        lambda: Square(objective=Whole(Margin()))(*_four(setting, rng)),
    )
    image, done = clean, torch.zeros(len(clean), dtype=torch.bool)
    for part in steps:
        found = setting.ball.project(part(), clean)
        image = torch.where(done.view(-1, 1, 1, 1), image, found)
        done = done | ~held(setting, image)[0]
    return image


def _four(setting: Setting, rng: CaseRng) -> tuple[TorchModel, Batch, Ball, CaseRng]:
    return setting.model, setting.batch, setting.ball, rng


def _aims(setting: Setting) -> tuple[Tensor, ...]:
    with torch.no_grad():
        output = setting.model(setting.batch.image)
    return easiest(output, setting.batch.target, setting.model.task)[:, :9].unbind(dim=1)


def _targeted(setting: Setting, rng: CaseRng) -> Tensor:
    model, batch, ball, _ = _four(setting, rng)
    found = untouched(model, batch, Ascent(Whole(Margin()), 100))
    for aim in _aims(setting):
        goal = Toward(dict(zip(batch.case_ids, aim.tolist(), strict=True)))
        ascent = Ascent(Whole(goal), 100)
        found = continued(model, batch, ball, ascent, at_edge(batch, ball, rng), found)
    return found.image


def _planes(setting: Setting, aim: Tensor) -> Tensor:
    walk = _Walk(setting.model, setting.batch, setting.ball, aim)
    return Fab()._nearest(walk, setting.batch.image)[0]
