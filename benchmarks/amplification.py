"""What an adversary makes of a reconstruction, beside random noise and compressed sensing.

The shipped reconstruction networks, compressed sensing and zero filling, on simulated hearts'
fourfold undersampled k-space. Antun's two cases are measured apart: `stays` changes the acquired
samples and keeps the reference, `moves` changes the object and compares with the changed one.

    python benchmarks/amplification.py [--only TEXT]

Takes about 18 minutes on one core. Stores every case's values in
benchmarks/results/amplification.json, a system at a time; a stored one is not measured again.
"""

import argparse
import json
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.features import InventedFeature, LostFeature
from robustbench_med.attacks.gradient import on_support, steepest
from robustbench_med.attacks.image_errors import LocalLinf, Nmse
from robustbench_med.attacks.objective import Asked, Objective
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Cohort, stack
from robustbench_med.cohorts.synthetic_cine import synthetic_cine
from robustbench_med.engine.amplification import amplified
from robustbench_med.engine.moving_reference import measured, moving
from robustbench_med.metrics.nmse_complex import NmseComplex
from robustbench_med.model import Model
from robustbench_med.models import load_model
from robustbench_med.probes import Attack
from robustbench_med.statistics.bootstrap import draw_patients, generator, replicate
from robustbench_med.statistics.proportions import clopper_pearson
from robustbench_med.statistics.studentised import limits
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

RESULT = Path(__file__).parent / "results" / "amplification.json"
SYSTEMS: dict[str, dict[str, object]] = {
    "zero_filled": {"use": "zero_filled"},
    "total_variation": {"use": "total_variation"},
    # The default's 60 iterations on 4 grids cost 7 times as much, at every step of a search.
    "wavelet_l1": {"use": "wavelet_l1", "iterations": 20, "shifts": 2},
    "fastmri_unet": {"use": "fastmri_unet", "preset": "small", "weights": "shipped:fastmri_unet"},
    "deep_cascade": {"use": "deep_cascade", "preset": "small", "weights": "shipped:deep_cascade"},
}
CLASSICAL = ("total_variation", "wavelet_l1")
PATIENTS = 24
RADII = (0.02, 0.1)  # of the norm of what is searched around
PARTS = (0.25, 0.5)  # of the lesion's own norm
STEPS = 20
LONGER, FEW = 4, 4  # times as many steps, on so many cases
LOST_AT = 0.5
LESION_MM, LESION = 3.0, 0.25  # standard deviation, height where 1 is the bright tissue
EDGE = 11  # of a lesion's region, pixels

Row = dict[str, list[float]]


@dataclass(frozen=True)
class Noise:
    """One random direction, at the edge of the ball: what any search must beat."""

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`."""
        del model
        away = steepest(on_support(rng.normal_like(batch.image), batch, ball), ball.norm)
        found = batch.image + ball.radius(batch.image, batch.context) * away
        return ball.project(found, batch.image, batch.context)


@dataclass(frozen=True)
class Nothing:
    """The clean image."""

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`."""
        del model, ball, rng
        return batch.image


def hearts() -> tuple[Cohort, Batch]:
    """Build the cohort that the networks are tested on, and one slice of each patient."""
    cohort = synthetic_cine(
        task="reconstruction", population="acdc", patients=PATIENTS, size=64, pixel_mm=2.4,
        slices=1, acceleration=4, centre_lines=6, split="test",
    )  # fmt: skip
    return cohort, stack([case for case in cohort.cases if case.attributes["phase"] == "ED"])


def lesions(batch: Batch) -> tuple[Batch, Batch]:
    """Return the cases with a lesion in them, and without; both contexts tell which and where.

    A bump, placed at random among the tissue near the centre, with the phase of the tissue, so
    that it is as high in the magnitude as it is alone.
    """
    target = batch.target
    size = target.shape[-1]
    magnitude = torch.linalg.vector_norm(target, dim=1, keepdim=True)
    at = torch.arange(size, dtype=target.dtype)
    feature, region = torch.zeros_like(magnitude), torch.zeros_like(magnitude)
    for row, case in enumerate(batch.case_ids):
        tissue = (magnitude[row, 0] > 0.2) & (magnitude[row, 0] < 0.8)
        near = (at - size / 2).abs() < size / 4
        places = (tissue & near[:, None] & near).nonzero()
        pick = int(CaseRng(0, "lesion", [case]).uniform()[0] * len(places))
        y, x = places[pick].tolist()
        width = LESION_MM / float(batch.context["spacing"][row][-1])
        square = (at[:, None] - y).square() + (at - x).square()
        feature[row, 0] = LESION * torch.exp(-square / (2 * width**2))
        near_y, near_x = ((at - centre).abs() <= EDGE // 2 for centre in (y, x))
        region[row, 0] = (near_y[:, None] & near_x).to(target)
    context = {**batch.context, "feature": feature, "feature_mask": region}
    shown = target * (1 + feature / magnitude.clamp(min=1e-6))
    kspace = batch.image + measured(shown - target, batch.context)
    return (
        Batch(batch.case_ids, kspace, shown, context),
        Batch(batch.case_ids, batch.image, target, context),
    )


def harm(model: Model, batch: Batch, attack: Attack, ball: Ball, objective: Objective) -> Tensor:
    """Objective of what the attack finds, projected as a probe does, `(b,)`."""
    found = attack(model, batch, ball, CaseRng(0, f"{attack!r} {ball}", batch.case_ids))
    found = ball.project(found.detach(), batch.image, batch.context)
    with torch.no_grad():
        return objective(model(found, batch.context), batch, model.task)


def compared(model: Model, batch: Batch, ball: Ball, objective: Objective) -> Row:
    """Objective without an attack, under random noise and under the search with slopes."""
    searches: dict[str, Attack] = {
        "clean": Nothing(), "noise": Noise(), "apgd": _search(objective),
    }  # fmt: skip
    return {name: _values(harm(model, batch, a, ball, objective)) for name, a in searches.items()}


def stays(model: Model, batch: Batch, eps: float) -> dict[str, Row]:
    """Where the reference stays: the acquired samples change."""
    ball = Ball("l2", eps, unit="fraction", support="mask")
    blind: dict[str, Attack] = {
        "random_search": RandomSearch(2 * STEPS, objective=Nmse()),
        "square": Square(2 * STEPS, objective=Nmse()),
    }
    nmse = compared(model, batch, ball, Nmse())
    for name, search in blind.items():
        nmse[name] = _values(harm(model, batch, search, ball, Nmse()))
    probe = amplified("apgd", _search("task"), ball, draws=10)
    values = probe.measure(model, batch, CaseRng(0, probe.name, batch.case_ids))
    length = ball.radius(batch.image, batch.context).flatten()
    gain = {"worst": values["amplification.gain"],
            "noise": values["amplification.random"] / length}  # fmt: skip
    return {
        "nmse": nmse, "gain": {name: _values(found) for name, found in gain.items()},
        "local_linf": compared(model, batch, ball, LocalLinf()),
    }  # fmt: skip


def lesioned(model: Model, batch: Batch, part: float) -> dict[str, Row]:
    """Where the reference stays: a lesion lost or invented by less change than the lesion itself.

    An adversary as strong as the lesion could take it out of the samples, or write it into them,
    and no reconstruction would be to blame.
    """
    present, absent = lesions(batch)
    length = present.context["feature"].flatten(start_dim=1).norm(dim=1).min()
    ball = Ball("l2", part * float(length), support="mask")
    return {
        "lost": compared(model, present, ball, LostFeature()),
        "invented": compared(model, absent, ball, InventedFeature()),
    }


def moves(model: Model, batch: Batch, eps: float) -> Row:
    """Where the reference moves: the object changes, and is what the answer is compared with."""
    ball = Ball("l2", eps, unit="fraction")
    searches: dict[str, Attack] = {
        "clean": Nothing(), "noise": Noise(), "apgd": _search("task"),
    }  # fmt: skip
    row = {}
    for name, attack in searches.items():
        probe = moving(name, attack, ball, {"nmse": NmseComplex()})
        rng = CaseRng(0, probe.name, batch.case_ids)
        row[name] = _values(probe.measure(model, batch, rng)["nmse"])
    return row


def longer(model: Model, batch: Batch, eps: float) -> Row:
    """Return the worst NMSE that longer searches find on a few cases."""
    ball = Ball("l2", eps, unit="fraction", support="mask")
    attack = _search(Nmse())
    searches: dict[str, Attack] = {
        "apgd": attack, "apgd_longer": replace(attack, steps=LONGER * STEPS),
        "square_longer": Square(10 * 2 * STEPS, objective=Nmse()),
    }  # fmt: skip
    few = batch.case_ids[:FEW]
    cut = {name: entry[:FEW] for name, entry in batch.context.items()}
    some = Batch(few, batch.image[:FEW], batch.target[:FEW], cut)
    return {name: _values(harm(model, some, a, ball, Nmse())) for name, a in searches.items()}


def measure(name: str, cohort: Cohort, batch: Batch) -> dict[str, Any]:
    """Everything about one system."""
    model = load_model(SYSTEMS[name], cohort=cohort, device="cpu", folder=".")
    started = time.process_time()
    found = {
        "stays": {str(eps): stays(model, batch, eps) for eps in RADII},
        "lesions": {str(part): lesioned(model, batch, part) for part in PARTS},
        "moves": {str(eps): moves(model, batch, eps) for eps in RADII},
        "longer": {str(eps): longer(model, batch, eps) for eps in RADII},
    }
    return {**found, "seconds": round(time.process_time() - started)}


def _search(objective: Asked) -> Apgd:
    return Apgd(STEPS, objective=objective)


def _values(found: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in found.tolist()]


def mean(values: Sequence[float], *, ratio: bool = False) -> tuple[float, float, float]:
    """Mean over patients with bootstrap-t limits; the geometric one of ratios."""
    column = np.log(values) if ratio else np.asarray(values, dtype=float)
    n, centre = len(column), float(np.mean(column))
    spread = (column - centre)[:, None] / n
    drawn = replicate(draw_patients(n, generator(0)), spread, np.ones((n, 1), dtype=bool))
    error = np.array([np.std(column, ddof=1) / n**0.5])
    low, high = limits(np.array([centre]), error, drawn)
    found = (centre, float(low[0]), float(high[0]))
    return tuple(np.exp(found).tolist()) if ratio else found


def shown(values: Sequence[float], *, ratio: bool = False) -> str:
    """Mean and limits, as the page prints them; patients who all agree have no limits."""
    value, low, high = mean(values, ratio=ratio)
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def share(values: Sequence[float]) -> str:
    """Cases at or above `LOST_AT`, with the exact interval of their share."""
    count, n = sum(value >= LOST_AT for value in values), len(values)
    low, high = clopper_pearson(count, n)
    return f"{count} of {n} [{low:.2f}, {high:.2f}]"


def tables(stored: Mapping[str, Any]) -> dict[str, list[str]]:
    """Rows of the page's tables, by what they show."""
    rows: dict[str, list[str]] = {
        name: [] for name in ("nmse", "gain", "local_linf", "lesions", "moves", "longer")
    }
    for name, system in stored["systems"].items():
        for eps in map(str, RADII):
            here, head = system["stays"][eps], f"| `{name}` | {eps}"
            error, gain = here["nmse"], here["gain"]
            cells = [shown(error[a]) for a in ("clean", "noise", "random_search", "square", "apgd")]
            rows["nmse"].append(f"{head} | {' | '.join(cells)} |")
            cells = [shown(gain["noise"]), shown(gain["worst"]),
                     shown(_over(gain["worst"], gain["noise"]), ratio=True)]  # fmt: skip
            for classical in CLASSICAL:
                cells.append(_against(stored["systems"], name, classical, eps))
            rows["gain"].append(f"{head} | {' | '.join(cells)} |")
            cells = [shown(here["local_linf"][a]) for a in ("clean", "noise", "apgd")]
            rows["local_linf"].append(f"{head} | {' | '.join(cells)} |")
            cells = [shown(system["moves"][eps][a]) for a in ("clean", "noise", "apgd")]
            rows["moves"].append(f"{head} | {' | '.join(cells)} |")
            few = system["longer"][eps]
            cells = [f"{np.mean(few[a]):.3f}" for a in ("apgd", "apgd_longer", "square_longer")]
            rows["longer"].append(f"{head} | {' | '.join(cells)} |")
        for part, found in system["lesions"].items():
            cells = [share(found[what][a]) for what in ("lost", "invented")
                     for a in ("clean", "noise", "apgd")]  # fmt: skip
            rows["lesions"].append(f"| `{name}` | {part} | {' | '.join(cells)} |")
    return rows


def _against(systems: Mapping[str, Any], name: str, classical: str, eps: str) -> str:
    """Worst gain over that of compressed sensing; a dash where that is not stored."""
    if name == classical:
        return "1"
    if classical not in systems:
        return "\N{EN DASH}"
    first, second = (systems[which]["stays"][eps]["gain"]["worst"] for which in (name, classical))
    return shown(_over(first, second), ratio=True)


def _over(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(first, second, strict=True)]


def known() -> dict[str, Any]:
    """What is stored."""
    found: dict[str, Any] = {"systems": {}}
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else found


def main() -> None:
    """Measure what is not stored yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="systems whose name has this in it")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cohort, batch = hearts()
    samples = 2 * batch.context["mask"].flatten(start_dim=1).sum(dim=1)
    noise = batch.context["noise"] * samples.sqrt()
    stored = known() | {
        "torch": torch.__version__, "python": platform.python_version(),
        "device": f"{platform.machine()} processor, one thread", "cases": list(batch.case_ids),
        "noise_share": _values(noise / batch.image.flatten(start_dim=1).norm(dim=1)),
    }  # fmt: skip
    for name in SYSTEMS:
        if asked.only in name and name not in stored["systems"]:
            found = measure(name, cohort, batch)
            # Read again: another process may have stored its own meanwhile.
            stored |= {"systems": known()["systems"] | {name: found}}
            ordered = {key: stored["systems"][key] for key in SYSTEMS if key in stored["systems"]}
            text = json.dumps(stored | {"systems": ordered}, indent=1)
            # Lists of numbers on one line each.
            RESULT.write_text(re.sub(r"\n\s+(?=[-\d]|\](?!\n\}))", " ", text) + "\n", "utf-8")
            print(name, stored["systems"][name]["seconds"], "s", flush=True)
    if stored["systems"].keys() == SYSTEMS.keys():
        print("\n\n".join("\n".join(lines) for lines in tables(stored).values()))


if __name__ == "__main__":
    main()
