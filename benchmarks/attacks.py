"""Our attacks against torchattacks, foolbox and ART: what is left standing, and what it costs.

One run, the same networks, cases and balls, tool after tool in turn. Five networks: a small one on
drawn images, trained naturally, trained adversarially, and with logits times 1000; the shipped
`lenet` on simulated hearts; and the shipped segmenter `bai_fcn`. Every image that a tool returns is
pulled into the ball and scored here, by one forward pass. `plain` is our own AutoAttack without
its savings: every part on every case, all classes and all steps.

    pip install --no-deps foolbox==3.3.4 eagerpy==0.30.0 gitpython gitdb smmap
    pip install --no-deps adversarial-robustness-toolbox==1.20.1 six multiprocess dill
    OMP_NUM_THREADS=1 python -P benchmarks/attacks.py [--folder runs/attacks] [--repeats 3]

or the extra `peers`. A tool that is not installed, or cannot do what is asked, is left out with the
reason. Seconds are CPU time of this process on one thread, medians over the repeats. Rows that
benchmarks/results/attacks.json holds are kept, so it can be stopped and started again.
"""

import argparse
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import Toward
from robustbench_med.attacks.ascent import Ascent, at_edge, continued, untouched
from robustbench_med.attacks.autoattack import Autoattack
from robustbench_med.attacks.fab import Fab, _Walk
from robustbench_med.attacks.margins import CrossEntropy, Margin, easiest
from robustbench_med.attacks.objective import Objective
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.sea import Sea
from robustbench_med.attacks.segpgd import Segpgd
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model
from robustbench_med.plan import load_plan
from robustbench_med.probes import Attack
from robustbench_med.questions import build_cohort
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "attacks.json"
PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox",
         "art": "adversarial-robustness-toolbox"}  # fmt: skip
TASK = Task("classification", ("a", "b", "c", "d", "e", "f"))
CASES, SLICES, SIDE = 100, 20, 24
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
    """

    name: str
    model: TorchModel
    batch: Batch
    ball: Ball

    def rng(self, name: str) -> CaseRng:
        """Streams of our own attacks."""
        return CaseRng(0, name, self.batch.case_ids)


# Networks and cases


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a brighter square in one of six places, the class: `(n, 1, 24, 24)`, `(n,)`."""
    stream = torch.Generator().manual_seed(seed)
    target = torch.randint(6, (count,), generator=stream)
    image = 0.5 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=stream)
    for case, place in enumerate(target.tolist()):
        y, x = 12 * (place // 3) + 3, 8 * (place % 3) + 1
        image[case, 0, y : y + 6, x : x + 6] += 0.1
    return image.clamp(0, 1), target


def trained(path: Path, eps: float) -> nn.Module:
    """Train a small network, against PGD where `eps` is above 0; or read it."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 6),
    )  # fmt: skip
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    image, target = drawn(2048, 1)
    optimiser, attack = torch.optim.Adam(network.parameters(), lr=2e-3), Pgd(3, step_size=0.5)
    for step in range(240):
        rows = torch.arange(128) + 128 * (step % 16)
        here, ids = image[rows], tuple(str(row) for row in rows.tolist())
        if eps:
            ball = Ball("linf", eps * min(1, step / 64), (0, 1))
            model = TorchModel(network, TASK, (0, 1))
            here = attack(model, Batch(ids, here, target[rows]), ball, CaseRng(step, "train", ids))
        optimiser.zero_grad()
        F.cross_entropy(network.train()(here), target[rows]).backward()
        optimiser.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


class Times(nn.Module):
    """A network whose logits are multiplied: its cross-entropy has no slope left."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(b, k)`."""
        answer: Tensor = self.network(image) * self.factor
        return answer


class Answers(nn.Module):
    """One of our models as the module that peers expect."""

    def __init__(self, model: TorchModel) -> None:
        super().__init__()
        self.model = model
        self.network = model.network

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.model(image, {})


def settings(folder: Path) -> Iterator[Setting]:
    """Every network with its cases, the cheap ones first."""
    image, target = drawn(CASES, 2)
    batch = Batch(tuple(f"case-{row}" for row in range(CASES)), image, target)
    ball = Ball("linf", 0.03, (0, 1))
    natural = trained(folder / "natural.pt", 0.0)
    adversarial = trained(folder / "adversarial.pt", ball.eps)
    for name, network in (("natural", natural), ("adversarial", adversarial),
                          ("masked", Times(natural, 1e3))):  # fmt: skip
        yield Setting(name, frozen(TorchModel(network, TASK, (0, 1))), batch, ball)
    yield hearts("bai_fcn", range(0, 7 * SLICES, 7), 24, 0.03)
    yield hearts("lenet", range(CASES), CASES, 0.006)


def hearts(name: str, rows: range, patients: int, eps: float) -> Setting:
    """A shipped network on test patients of its plan."""
    plan = load_plan(ROOT / "examples" / "systems" / f"{name}.toml")
    asked = {**plan.cohort.settings, "patients": {"test": patients}}
    cohort = build_cohort(replace(plan, cohort=replace(plan.cohort, settings=asked)))
    entry = {**plan.model, "weights": f"shipped:{name}"}
    model = load_model(entry, cohort=cohort, device="cpu", folder=plan.folder)
    if not isinstance(model, TorchModel):
        raise SystemExit(f"attacks: expected a network, got {type(model).__name__}")
    cases = [cohort.cases[row] for row in rows]
    batch = Batch(tuple(case.case_id for case in cases), torch.stack([c.image for c in cases]),
                  torch.stack([c.target for c in cases]))  # fmt: skip
    return Setting(name, frozen(model), batch, Ball("linf", eps, (0, 1)))


def frozen(model: TorchModel) -> TorchModel:
    """Spare every tool the gradients of parameters, which some would compute."""
    model.network.eval().requires_grad_(requires_grad=False)
    return model


# What is run: each returns images


def ours(attack: Attack, setting: Setting) -> Tensor:
    """One of our attacks."""
    return attack(setting.model, setting.batch, setting.ball, setting.rng("attacks"))


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


Run = Callable[[Setting], Tensor]


def asked(setting: Setting) -> dict[str, dict[str, Run]]:
    """What is compared with what, by family: tool and setting by name."""
    if setting.model.task.kind == "segmentation":
        return {"segmentation": {
            "ours pgd 100": partial(ours, Pgd(steps=100)),
            "ours segpgd 100": partial(ours, Segpgd(steps=100)),
            "ours sea 3 x 100": partial(ours, Sea(steps=100)),
            "torchattacks pgd 100": partial(torchattacks, "pgd 100"),
            "torchattacks mifgsm 100": partial(torchattacks, "mifgsm 100"),
            "foolbox pgd 100": partial(foolbox, "pgd 100"),
            "art pgd 100": partial(art, "pgd 100"),
        }}  # fmt: skip
    return {
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


# What came of it


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


def measured(run: Run, setting: Setting) -> dict[str, Any]:
    """One run: CPU seconds, how far out of the ball it came, what is left of the cases."""
    torch.manual_seed(0)
    gc.collect()
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = run(setting)
    seconds = time.process_time() - started
    beyond = float((image - setting.batch.image).abs().max()) / setting.ball.eps
    right, dice = held(setting, setting.ball.project(image, setting.batch.image))
    found = {"seconds": [round(seconds, 4)], "held": int(right.sum()), "beyond": round(beyond, 4)}
    return found if dice is None else {**found, "dice": round(float(dice.mean()), 4)}


def added(before: dict[str, Any] | None, setting: Setting, tool: str, run: Run) -> dict[str, Any]:
    """A row with one more repeat; or why there is none."""
    package = tool.split(maxsplit=1)[0]
    if package in PEERS and importlib.util.find_spec(package) is None:
        return {"left_out": "not installed"}
    try:
        new = measured(run, setting)
    except Exception as error:  # whatever a peer raises is what is reported of it
        if package not in PEERS:
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        return {"left_out": f"{type(error).__name__}: {reason}"[:160]}
    if before:
        new["seconds"] = [*before["seconds"], *new["seconds"]]
        new["held"] = min(before["held"], new["held"])
    return new


def peak_mib(folder: Path, tool: str) -> float:
    """Peak memory of a process of its own that runs PGD of that tool on `lenet`."""
    command = [sys.executable, "-P", __file__, "--folder", str(folder), "--memory-of", tool]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(float(done.stdout.split()[-1]), 1)


def remember(folder: Path, tool: str) -> None:
    """Print by how many MiB memory grows while one tool runs."""
    *_, setting = settings(folder)
    held(setting, setting.batch.image)
    run = asked(setting)["pgd"][tool]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured(run, setting)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def summary(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Cases that we leave standing beyond the strongest peer, and ratios of CPU seconds."""
    behind, ratios = {}, {}
    for network, tools in rows.items():
        ran = {tool: row for tool, row in tools.items() if "held" in row}
        mine = [row["held"] for tool, row in ran.items() if tool.startswith("ours ")
                and tool != "ours plain"]  # fmt: skip
        peers = {tool: row["held"] for tool, row in ran.items() if tool.split()[0] in PEERS}
        if mine and peers:
            best = min(peers, key=lambda tool: peers[tool])
            behind[network] = {"ours": min(mine), "peer": best, "peer_held": peers[best]}
        ratios[network] = {
            f"{one} / {other}": paired(ran[one]["seconds"], ran[other]["seconds"])
            for one, other in COMPARED
            if one in ran and other in ran
        }  # fmt: skip
    return {"strongest": behind, "ratios": {k: v for k, v in ratios.items() if v}}


def paired(one: list[float], other: list[float]) -> float:
    """Median of the ratios, repeat by repeat."""
    return round(float(np.median([a / b for a, b in zip(one, other, strict=False)])), 3)


COMPARED = (
    ("ours pgd 40", "bare loop"),
    ("ours plain", "ours autoattack"),
    *((f"{peer} pgd 40", "ours pgd 40") for peer in PEERS),
    *((f"{peer} apgd 100", "ours apgd 100") for peer in ("torchattacks", "art")),
    ("torchattacks published", "ours autoattack"),
    ("art published", "ours autoattack"),
)
OFTENER = {"pgd": 3, "apgd": 1, "segmentation": 1, "ensemble": 1}
"""Families, the cheap ones first, and how many times as many repeats as asked each has."""


def run_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Fill in what the results lack, family by family, tools in turn; store after each."""
    every = [setting for setting in settings(options.folder) if options.only in setting.name]
    for tool, run in asked(every[0]).get("pgd", {}).items():
        added(None, every[0], tool, run)  # a tool's first call is slower than others
    for setting in every:
        result["networks"][setting.name] = {
            "cases": len(setting.batch), "eps": setting.ball.eps,
            "right": int(held(setting, setting.batch.image)[0].sum()),
        }  # fmt: skip
    todo = [
        (repeat, setting, tool, run)
        for family, oftener in OFTENER.items()
        for repeat in range(options.repeats * oftener)
        for setting in every
        for tool, run in asked(setting).get(family, {}).items()
    ]
    for repeat, setting, tool, run in todo:
        rows = result["rows"].setdefault(setting.name, {})
        row = rows.get(tool)
        if row and ("left_out" in row or len(row["seconds"]) > repeat):
            continue
        rows[tool] = added(row, setting, tool, run)
        print(setting.name, tool, json.dumps(rows[tool]), flush=True)
        store(result, options.result)


def table(result: dict[str, Any]) -> list[str]:
    """Rows of the page: network, attack, cases held, mean Dice, CPU seconds."""
    lines = ["| network | attack | held | CPU seconds |", "|---|---|---|---|"]
    for network, tools in result["rows"].items():
        for tool, row in tools.items():
            if "left_out" in row:
                cells = f"cannot: {row['left_out']}", ""
            else:
                dice = f", mean Dice {row['dice']:.3f}" if "dice" in row else ""
                cells = f"{row['held']}{dice}", f"{float(np.median(row['seconds'])):.2f}"
            lines.append(f"| `{network}` | {tool} | {' | '.join(cells)} |")
    return lines


def store(result: dict[str, Any], path: Path) -> None:
    """Write what there is, with what follows from it."""
    content = json.dumps({**result, **summary(result["rows"])}, indent=1)
    path.write_text(content + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of the peers that are installed; imports them, so that no row pays for that."""
    found = {}
    for name, package in PEERS.items():
        if importlib.util.find_spec(name) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
            found[name] = importlib.metadata.version(package)
    return found


def main() -> None:
    """Measure what the results lack, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "attacks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--result", type=Path, default=RESULT, help="where rows are kept")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        remember(options.folder, options.memory_of)
        return
    known = options.result
    result = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    result = {"networks": {}, "rows": {}, "added_mib": {}, **result}
    result["machine"] = {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                         "torch": torch.__version__, **versions()}  # fmt: skip
    run_all(options, result)
    for tool, row in result["rows"].get("lenet", {}).items():
        if tool.endswith("pgd 40") and "held" in row and tool not in result["added_mib"]:
            result["added_mib"][tool] = peak_mib(options.folder, tool)
    store(result, options.result)
    print("\n".join(table(result)))
    print(json.dumps({**summary(result["rows"]), "added_mib": result["added_mib"]}, indent=1))


if __name__ == "__main__":
    main()
