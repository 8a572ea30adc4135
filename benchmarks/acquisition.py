"""How much more is certified of acquisition physics when its parameters are the network's inputs.

Small convolutional classifiers of the digits (16 x 16), trained here, on cases that they were not
trained on and answer correctly:

- a bias field of 3 coefficients (constant and both linear terms), as (a) the box of images that
  contains it, CROWN; (b) its coefficients as the network's input, CROWN; (c) the same, halving the
  box of coefficients. All three are derived in float64 with every rounding accounted for. The
  smallest radius at which sampling or the search meets a failure is the upper limit;
- gamma and rotation, of the network `deeper`: the share of cases that are certified by
  sub-intervals, next to the share of those for which sampling finds no failure.

Seconds are of one process on one thread, cases one after the other, (a) to (c) of a case in turn.

    python -P benchmarks/acquisition.py [--quick]
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from robustbench_med.certify.cutting import Halving
from robustbench_med.certify.gamma_sets import gamma_boxes
from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.parameter_radius import CLOSE, certified_radius
from robustbench_med.certify.physics_sets import field_hull, smooth_fields, with_bias_field
from robustbench_med.certify.pose_sets import Pose, pose_boxes, posed
from robustbench_med.proofs.check import check
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Floats, Network
from robustbench_med.proofs.proof import InputSet

RESULT = Path(__file__).parent / "results" / "acquisition.json"
FREE, BOUNDS, MOST, SAMPLES = (-np.inf, np.inf), (0.0, 1.0), 1.0, 4000
# Largest gamma (the smallest is 1 / it) or angle, and sub-intervals.
GAMMAS, ANGLES = ((1.5, 1), (1.5, 32), (4.0, 64)), ((5.0, 4), (5.0, 64), (25.0, 256))
HALVING = Halving(budget=800, together=64)


Cases = list[tuple[Floats, int]]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All digits, `(n, 1, 16, 16)` of 0 to 1, and their classes, in a fixed random order."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    small = torch.from_numpy(data.images[order] / 16).float()[:, None]
    image = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return image, torch.from_numpy(data.target[order])


def dense(*sizes: int) -> nn.Module:
    """A classifier of two strided convolutions, and dense layers between these sizes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(),
    ]  # fmt: skip
    for before, after in pairwise((256, *sizes, 10)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trained(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> nn.Module:
    """Train by Adam, 25 epochs."""
    torch.manual_seed(0)
    steps = torch.optim.Adam(network.parameters(), 2e-3, weight_decay=1e-4)
    for _ in range(25):
        for some in torch.randperm(len(image)).split(64):
            steps.zero_grad()
            F.cross_entropy(network(image[some]), target[some]).backward()
            steps.step()
    return network.eval()


def margins(label: int) -> Rows:
    """Its logit less each other."""
    others = [other for other in range(10) if other != label]
    columns = np.array([[label, other] for other in others])
    return Rows(columns, np.tile([1.0, -1.0], (9, 1)))


def fails(network: Network, images: Floats, label: int) -> np.ndarray:
    """At which of `(n, *input)` the label's logit is not the largest alone."""
    logits = values_of_cases(network, images)[-1]
    others = np.delete(logits, label, axis=1)
    return np.asarray(others.max(axis=1) >= logits[:, label])


def largest(certified: Callable[[float], bool], most: float) -> float:
    """Bisect for the largest certified radius, to the same closeness as `certified_radius`."""
    low, high = 0.0, most
    while high - low > CLOSE * high and high > CLOSE**2 * most:
        trial = (low + high) / 2
        low, high = (trial, high) if certified(trial) else (low, trial)
    return low


def proved(network: Network, inputs: InputSet, rows: Rows) -> bool:
    """Whether CROWN proves all rows, its limits derived in float64."""
    return bool((climb(network, inputs, rows, Effort("crown")).limits > 0).all())


def sampled_failure(network: Network, label: int, rng: np.random.Generator) -> float:
    """Smallest radius at which random coefficients, many of them corners, change the answer."""
    rays = rng.uniform(-1, 1, size=(SAMPLES, 3))
    rays[: SAMPLES // 2] = np.sign(rays[: SAMPLES // 2])
    rays = np.unique(rays / np.abs(rays).max(axis=1, keepdims=True), axis=0)
    smallest = MOST
    for radius in np.linspace(MOST, 0, 101)[:-1]:
        if not len(rays := rays[fails(network, radius * rays, label)]):
            break
        smallest = float(radius)
    return smallest


def field_radii(
    network: Network, image: Floats, label: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Certified radii of one case in the three ways, with CPU seconds, and the upper limit."""
    space, rows = image.shape[1:], margins(label)
    fields = np.concatenate([np.ones((1, *space)), smooth_fields(space, 1)])
    whole = with_bias_field(network, image, fields, FREE)
    most = sampled_failure(whole, label, rng)
    clock = [time.process_time()]

    def hull(radius: float) -> bool:
        return proved(network, InputSet(*field_hull(image, fields, radius, FREE)), rows)

    def box(radius: float) -> bool:
        return proved(whole, InputSet(np.full(3, -radius), np.full(3, radius)), rows)

    found = {"hull": largest(hull, most)}
    clock.append(time.process_time())
    found["parameters"] = largest(box, most)
    clock.append(time.process_time())
    halved = certified_radius(whole, np.ones(3), rows, most=most, halving=HALVING)
    clock.append(time.process_time())
    if halved.proof:
        check(whole, halved.proof.proof)
    clock.append(time.process_time())
    seconds = dict(zip(("hull", "parameters", "halving", "check"), np.diff(clock), strict=True))
    boxes = len(halved.proof.proof.bases) if halved.proof else 0
    found |= {"halving": halved.certified, "failure": min(most, halved.broken)}
    return {"radius": found, "seconds": seconds, "boxes": boxes}


def shares(
    network: Network,
    cases: Cases,
    boxes: Callable[[Floats], Sequence[InputSet]],
    samples: Callable[[Floats], Floats],
) -> dict[str, Any]:
    """Of how many cases every sub-interval is certified, and how many stand all samples."""
    started = time.process_time()
    certified = [
        all(proved(network, box, margins(label)) for box in boxes(image)) for image, label in cases
    ]
    spent = time.process_time() - started
    stands = [not fails(network, samples(image), label).any() for image, label in cases]
    if any(c and not s for c, s in zip(certified, stands, strict=True)):
        raise SystemExit("acquisition: a certified case fails at a sample")
    return {"cases": len(cases), "certified": sum(certified), "standing": sum(stands),
            "seconds": spent}  # fmt: skip


def gammas(network: Network, cases: Cases, most: float, parts: int) -> dict[str, Any]:
    """Gamma of 1 / most to most."""
    powers = np.geomspace(1 / most, most, 401)
    found = shares(
        network, cases,
        lambda image: gamma_boxes(image, 1 / most, most, parts, BOUNDS),
        lambda image: np.stack([image**power for power in powers]),
    )  # fmt: skip
    return {"set": f"gamma 1/{most:g} to {most:g}, {parts} parts", **found}


def rotations(network: Network, cases: Cases, most: float, parts: int) -> dict[str, Any]:
    """Rotations up to `most` degrees either way."""
    angles = np.linspace(-most, most, 401)
    found = shares(
        network, cases,
        lambda image: pose_boxes(image, most, parts=(parts, 1)),
        lambda image: np.stack([posed(image, Pose(angle)) for angle in angles]),
    )  # fmt: skip
    return {"set": f"rotation up to {most:g} degrees, {parts} parts", **found}


NAMES = {
    "hull": "(a) pixel box, CROWN", "parameters": "(b) parameters, CROWN",
    "halving": "(c) parameters, halved", "failure": "smallest failure met",
}  # fmt: skip


def table(result: dict[str, Any]) -> list[str]:
    """The page's tables."""
    lines = ["| network | bias field, 3 coefficients | mean radius | median | CPU s a case |",
             "|---|---|---|---|---|"]  # fmt: skip
    for network in result["networks"]:
        for name, title in NAMES.items():
            radii = [case["radius"][name] for case in network["cases"]]
            cost = [case["seconds"].get(name) for case in network["cases"]]
            spent = f"{np.mean(cost):.1f}" if name != "failure" else ""
            means = f"{np.mean(radii):.4f} | {np.median(radii):.4f}"
            lines.append(f"| {network['name']} | {title} | {means} | {spent} |")
    for network in result["networks"]:
        ratio = f"(c) / (a) {network['ratio']:.2f}, of at most {network['at_most']:.2f}"
        lines += ["", f"{network['name']}: {ratio}; {len(network['cases'])} cases"]
    lines += [
        "",
        "| set | cases | certified | no failure sampled | CPU s |",
        "|---|---|---|---|---|",
    ]
    for row in result["sets"]:
        counts = f"{row['cases']} | {row['certified']} | {row['standing']}"
        lines.append(f"| {row['set']} | {counts} | {row['seconds']:.0f} |")
    return lines


def prepared(model: nn.Module, count: int) -> tuple[Network, Cases, float]:
    """Train, write out, and pick cases held out that are answered correctly."""
    image, target = digits()
    first = 1400
    trained(model, image[:first], target[:first])
    right = model(image[first:]).argmax(dim=1) == target[first:]
    chosen = (first + right.nonzero().flatten())[:count].tolist()
    cases = [(image[i].double().numpy(), int(target[i])) for i in chosen]
    return lowered(model, image[:1]).network, cases, float(right.float().mean())


def compared(name: str, network: Network, cases: Cases, accuracy: float) -> dict[str, Any]:
    """Radii of all cases, the ratio of their means, and the most that it could be."""
    rng, found = np.random.default_rng(1), []
    for image, label in cases:
        found.append(field_radii(network, image, label, rng))
        print(json.dumps({"network": name, **found[-1]}), flush=True)
    mean = {way: float(np.mean([case["radius"][way] for case in found])) for way in NAMES}
    return {"name": name, "accuracy": accuracy, "ratio": mean["halving"] / mean["hull"],
            "at_most": mean["failure"] / mean["hull"], "cases": found}  # fmt: skip


def main() -> None:
    """Print the tables; store them unless quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases; nothing is stored")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    started, count = time.time(), 3 if quick else 20
    networks = []
    for name, sizes in (("shallow", (32,)), ("deeper", (64, 32))):
        network, cases, accuracy = prepared(dense(*sizes), count)
        networks.append(compared(name, network, cases, accuracy))
    result = {
        "machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__,
        "threads": 1, "networks": networks,
        "sets": [
            *(gammas(network, cases, *each) for each in GAMMAS),
            *(rotations(network, cases, *each) for each in ANGLES),
        ],
        "seconds": time.time() - started,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip
    print("\n".join(table(result)))
    if not quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
