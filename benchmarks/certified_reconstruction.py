"""What is proved of a deep cascade's error when its acquired k-space samples are wrong.

The shipped `deep_cascade` (3 cascades, 24 filters, trained at 64 x 64) on simulated cine: the
middle of a test slice, cropped, because the cost of a proof grows with about the fourth power of
the side; every second line, four of them at the centre, without noise. For each ball on the
acquired samples: NMSE of complex images on the data as they are, the most that gradient ascent on
the error found, and the certified limits, by direction and by voxel alone. One thread.

    python -P benchmarks/certified_reconstruction.py [--size 16] [--cases 1] [--quick]
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robustbench_med.cases import Batch, Bounds, Task
from robustbench_med.certify.fixed_form import fixed_form
from robustbench_med.certify.image_limits import error_limits
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.region import region
from robustbench_med.certify.written import input_set
from robustbench_med.components import build
from robustbench_med.model import TorchModel
from robustbench_med.networks.deep_cascade import deep_cascade
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask
from robustbench_med.proofs.energy import by_voxel
from robustbench_med.shipped import located
from robustbench_med.threat import Ball

RESULT = Path(__file__).parent / "results" / "certified_reconstruction.json"
EVERYWHERE: Bounds = (-float("inf"), float("inf"))
COHORT = {
    "task": "reconstruction", "population": "acdc", "patients": {"train": 1, "test": 4},
    "size": 64, "pixel_mm": 2.4, "slices": 1, "acceleration": 4, "centre_lines": 6,
}  # fmt: skip
RADII = (("linf", 0.001), ("linf", 0.005), ("l2", 0.001), ("l2", 0.005))


def cases(count: int, size: int) -> Iterator[tuple[str, Batch]]:
    """The middle of test slices as k-space with every second line, and their true images."""
    cohort = build("cohorts", "synthetic_cine", **COHORT)
    stream = torch.Generator().manual_seed(0)
    for case in (cohort.cases[at] for at in range(count)):
        first = (case.target.shape[-1] - size) // 2
        inner = slice(first, first + size)
        target = case.target[None, :, inner, inner].float()
        lines = cartesian_mask(size, 2, 4, stream).float()
        mask = lines[None, None, :, None].expand(1, 1, size, size).contiguous()
        kspace = to_channels(fft2c(to_complex(target))) * mask
        yield case.case_id, Batch((case.case_id,), kspace, target, {"mask": mask})


def ball_of(norm: str, share: float, batch: Batch) -> Ball:
    """Radius by the rms of the acquired samples, or by their norm."""
    if norm == "l2":
        return Ball("l2", share, EVERYWHERE, unit="fraction", support="mask")
    acquired = batch.image[:, :, batch.context["mask"][0, 0] > 0]
    return Ball("linf", share * float(acquired.square().mean().sqrt()), EVERYWHERE, support="mask")


def attacked(network: nn.Module, batch: Batch, ball: Ball) -> tuple[float, float]:
    """The largest NMSE, and the largest error of a voxel, that gradient ascent finds."""
    clean, target = batch.image.double(), batch.target.double()
    context = {"mask": batch.context["mask"].double()}
    radius = ball.radius(clean, context)
    stream = torch.Generator().manual_seed(1)
    most, worst = 0.0, 0.0

    def errors(image: Tensor) -> Tensor:
        output: Tensor = network(image)
        return (output - target).square().sum(dim=1).flatten()

    begun = errors(clean)
    for aim in (None, None, int(begun.argmax())):
        noise = torch.randn(clean.shape, generator=stream, dtype=torch.float64)
        image = ball.project(clean + 0.1 * radius * noise, clean, context)
        for step in range(60):
            image = image.detach().requires_grad_()
            error = errors(image)
            loss = error.sum() if aim is None else error[aim]
            (slope,) = torch.autograd.grad(loss, image)
            most = max(most, float(error.detach().sum()))
            worst = max(worst, float(error.detach().max().sqrt()))
            way = slope.sign() if ball.norm == "linf" else slope / slope.norm()
            image = ball.project(
                image.detach() + radius * 0.5 * 0.96**step * way, clean, context
            )  # fmt: skip
    return most / float(target.square().sum()), worst


def measured(model: TorchModel, case_id: str, batch: Batch) -> Iterator[dict[str, Any]]:
    """A row per radius of one case."""
    network = fixed_form(model, batch)
    written = lowered(network, batch.image).network
    truth = batch.target[0].double().numpy()
    power = float(np.square(truth).sum())
    clean = network(batch.image.double())[0].numpy() - truth
    for norm, share in RADII:
        ball = ball_of(norm, share, batch)
        most, worst = attacked(network, batch, ball)
        started = time.process_time()
        limits = error_limits(written, input_set(region(ball, batch)[0]), truth)
        spent = time.process_time() - started
        alone = by_voxel((limits.low - truth).ravel(), (limits.high - truth).ravel())
        yield {
            "case": case_id, "norm": norm, "share": share, "clean": float(np.square(clean).sum())
            / power, "attacked": most, "certified": limits.nmse[1], "by_voxel": alone[1] / power,
            "certified_least": limits.nmse[0], "worst_attacked": worst,
            "worst_certified": limits.worst_pixel, "seconds": spent,
        }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    lines = [
        "| ball | clean | attacked | certified | by voxel alone | voxel attacked | certified |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = f"{row['norm']} {100 * row['share']:g} %"
        nmse = " | ".join(f"{row[n]:.5f}" for n in ("clean", "attacked", "certified", "by_voxel"))
        worst = f"{row['worst_attacked']:.4f} | {row['worst_certified']:.4f}"
        lines.append(f"| {share} | {nmse} | {worst} |")
    return lines


def main() -> None:
    """Print a row per case and radius, then the table; store them unless quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 x 8; nothing is stored")
    parser.add_argument("--size", type=int, default=16, help="side of the crop")
    parser.add_argument("--cases", type=int, default=1, help="how many")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = shipped()
    size = 8 if asked.quick else asked.size
    rows: list[dict[str, Any]] = []
    for case_id, batch in cases(asked.cases, size):
        for row in measured(model, case_id, batch):
            print(json.dumps(row), flush=True)
            rows.append(row)
    print("\n".join(table(rows)))
    if not asked.quick:
        about = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1,
                 "size": size}  # fmt: skip
        RESULT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def shipped() -> TorchModel:
    """The shipped cascade."""
    network = deep_cascade(preset="small")
    network.load_state_dict(load_file(located("shipped:deep_cascade", ".")))
    return TorchModel(network, Task("reconstruction"), EVERYWHERE)


if __name__ == "__main__":
    main()
