"""What is compared with what, on which network."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from attack_peers.peers import PEERS, art, foolbox, torchattacks
from attack_peers.setting import Setting
from attack_peers.without_savings import bare, plain
from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.autoattack import Autoattack
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.sea import Sea
from robustbench_med.attacks.segpgd import Segpgd
from robustbench_med.probes import Attack

Run = Callable[[Setting], Tensor]
OFTENER = {"pgd": 9, "apgd": 1, "segmentation": 1, "ensemble": 1}
"""Families of comparisons, the cheap ones first; how many times the asked repeats each has."""
COMPARED = (
    ("ours pgd 40", "bare loop"),
    ("ours plain", "ours autoattack"),
    *((f"{peer} pgd 40", "ours pgd 40") for peer in PEERS),
    *((f"{peer} apgd 100", "ours apgd 100") for peer in ("torchattacks", "art")),
    ("torchattacks published", "ours autoattack"),
    ("art published", "ours autoattack"),
)
"""Tools whose CPU seconds are divided by one another, repeat by repeat."""


def ours(attack: Attack, setting: Setting) -> Tensor:
    """One of our attacks."""
    return attack(setting.model, setting.batch, setting.ball, setting.rng("attacks"))


def asked(setting: Setting) -> dict[str, dict[str, Run]]:
    """What is compared with what, by family: tool and setting by name."""
    every: dict[str, dict[str, Run]] = {
        "segmentation": {
            "ours pgd 100": partial(ours, Pgd(steps=100)),
            "ours segpgd 100": partial(ours, Segpgd(steps=100)),
            "ours sea 3 x 100": partial(ours, Sea(steps=100)),
            "torchattacks pgd 100": partial(torchattacks, "pgd 100"),
            "torchattacks mifgsm 100": partial(torchattacks, "mifgsm 100"),
            "foolbox pgd 100": partial(foolbox, "pgd 100"),
            "art pgd 100": partial(art, "pgd 100"),
        },
        "pgd": {
            "bare loop": partial(bare, 40),
            "ours pgd 40": partial(ours, Pgd(steps=40)),
            **{f"{peer.__name__} pgd 40": partial(peer, "pgd 40")
               for peer in (torchattacks, foolbox, art)},
        },
        "apgd": {
            "ours apgd 100": partial(ours, Apgd()),
            "torchattacks apgd 100": partial(torchattacks, "apgd"),
            "art apgd 100": partial(art, "apgd"),
        },
        "ensemble": {
            "ours autoattack": partial(ours, Autoattack()),
            "ours plain": plain,
            "torchattacks published": partial(torchattacks, "published"),
            "torchattacks shipped": partial(torchattacks, "shipped"),
            "foolbox several": partial(foolbox, "several"),
            "art published": partial(art, "published"),
        },
    }  # fmt: skip
    return {family: every[family] for family in setting.families}
