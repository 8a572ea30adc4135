"""torchattacks, foolbox and ART, each asked for what is nearest to one of our attacks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attack_peers.setting import Setting
from robustbench_med.model import TorchModel

PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox",
         "art": "adversarial-robustness-toolbox"}  # fmt: skip
"""The package of each, by the name it is imported under."""


class Answers(nn.Module):
    """One of our models as the module that peers expect."""

    def __init__(self, model: TorchModel) -> None:
        super().__init__()
        self.model = model
        self.network = model.network

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.model(image, {})


def torchattacks(kind: str, setting: Setting) -> Tensor:
    """The peer of that name."""
    import torchattacks as ta

    network, eps = Answers(setting.model), setting.ball.eps
    classes = len(setting.model.task.classes)
    every: dict[str, Callable[[], Any]] = {
        "pgd 40": lambda: ta.PGD(network, eps, 0.1 * eps, 40),
        "pgd 100": lambda: ta.PGD(network, eps, 0.1 * eps, 100),
        "mifgsm 100": lambda: ta.MIFGSM(network, eps, 0.1 * eps, 100),
        "apgd": lambda: ta.APGD(network, eps=eps, steps=100),
        "shipped": lambda: ta.AutoAttack(network, eps=eps, n_classes=classes, seed=0),
        "published": lambda: ta.MultiAttack([
            ta.APGD(network, eps=eps, steps=100),
            ta.APGDT(network, eps=eps, steps=100, n_classes=classes),
            ta.FAB(network, eps=eps, steps=100, multi_targeted=True, n_classes=classes),
            ta.Square(network, eps=eps, n_queries=5000, resc_schedule=False),
        ]),
    }  # fmt: skip
    found: Tensor = every[kind]()(setting.batch.image, setting.batch.target)
    return found.detach()


def foolbox(kind: str, setting: Setting) -> Tensor:
    """The peer of that name; `several` keeps for each case the first image that breaks it."""
    import foolbox as fb

    network = fb.PyTorchModel(Answers(setting.model).eval(), bounds=(0, 1), device="cpu")
    pgd = partial(fb.attacks.LinfPGD, rel_stepsize=0.1)
    attacks = {
        "pgd 40": [pgd(steps=40)],
        "pgd 100": [pgd(steps=100)],
        "several": [*(pgd(steps=100) for _ in range(5)), fb.attacks.LInfFMNAttack(),
                    fb.attacks.LinfDeepFoolAttack()],
    }[kind]  # fmt: skip
    image, done = setting.batch.image, torch.zeros(len(setting.batch), dtype=torch.bool)
    for attack in attacks:
        _, found, broken = attack(network, setting.batch.image, setting.batch.target,
                                  epsilons=setting.ball.eps)  # fmt: skip
        image = torch.where(done.view(-1, 1, 1, 1), image, found)
        done = done | broken
    return image.detach()


def art(kind: str, setting: Setting) -> Tensor:
    """The peer of that name."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    batch, eps = setting.batch, setting.ball.eps
    network = PyTorchClassifier(
        Answers(setting.model), loss=nn.CrossEntropyLoss(), input_shape=batch.image.shape[1:],
        nb_classes=len(setting.model.task.classes), clip_values=(0, 1), device_type="cpu",
    )  # fmt: skip
    shared = {"eps": eps, "batch_size": len(batch)}
    pgd = partial(evasion.ProjectedGradientDescent, network, eps_step=0.1 * eps, num_random_init=1,
                  verbose=False, **shared)  # fmt: skip
    apgd = partial(evasion.AutoProjectedGradientDescent, network, eps_step=2 * eps, max_iter=100,
                   nb_random_init=1, verbose=False, **shared)  # fmt: skip
    every: dict[str, Callable[[], Any]] = {
        "pgd 40": lambda: pgd(max_iter=40),
        "pgd 100": lambda: pgd(max_iter=100),
        "apgd": lambda: apgd(loss_type="cross_entropy"),
        "published": lambda: evasion.AutoAttack(network, eps_step=2 * eps, attacks=[
            apgd(loss_type="cross_entropy"), apgd(loss_type="difference_logits_ratio"),
            evasion.DeepFool(network, max_iter=100, batch_size=len(batch), verbose=False),
            evasion.SquareAttack(network, max_iter=5000, p_init=0.8, verbose=False, **shared),
        ], **shared),
    }  # fmt: skip
    truth = batch.target.numpy()
    return torch.from_numpy(every[kind]().generate(batch.image.numpy(), y=truth))
