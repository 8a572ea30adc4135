"""Certified limits of the ejection fraction, next to what an attack reaches.

The shipped `plain_fcn` segments the slices of simulated test patients. At three linf radii: limits
of each patient's ejection fraction, from what is proved about every pixel of every slice at both
phases (`crown`), and the range that gradient attacks on the cavity's size reach, slice by slice.
Patients are drawn by the order of the cohort; each is written down when it is done, so that a
later call goes on with the next. Draws docs/figures/ejection_fraction.svg, too.

    python -P benchmarks/ejection_fraction.py [--patients N] [--only K/M]
"""

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.cases import Batch, Case
from robustbench_med.certify.crown import Crown
from robustbench_med.clinical import ejection_fraction, measure, patient_limits
from robustbench_med.components import build
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model
from robustbench_med.reports.drawing import draw
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from ejection_parts.shown import paint, table

PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "ejection_fraction.svg"
RESULT = Path(__file__).parent / "results" / "ejection_fraction.json"
PARTS = Path(__file__).parents[1] / "runs" / "ejection_fraction"
RADII = (0.25 / 255, 0.5 / 255, 1 / 255)
COHORT = {
    "task": "segmentation", "population": "acdc", "size": 64, "pixel_mm": 2.4, "slices": 3,
    "patients": {"train": 90, "test": 64}, "split": "test",
}  # fmt: skip
STEPS, STARTS, LV, CLASSES = 60, 3, 1, 4


def reached(model: TorchModel, image: Tensor, ball: Ball) -> tuple[int, int]:
    """Fewest and most LV pixels that gradient steps on one slice `(1, 1, h, w)` reach."""
    stream = torch.Generator().manual_seed(0)
    counts = [int((model(image).argmax(dim=1) == LV).sum())]
    for sign in (-1.0, 1.0):
        for start in range(STARTS):
            noise = ball.eps * (2 * torch.rand(image.shape, generator=stream) - 1)
            moved = ball.project(image + (noise if start else 0), image)
            for step in range(STEPS):
                moved.requires_grad_()
                logits = model(moved)
                rest = torch.cat([logits[:, :LV], logits[:, LV + 1 :]], dim=1).amax(dim=1)
                margin = logits[:, LV] - rest
                counts.append(int((margin > 0).sum()))
                # Sharper and sharper towards a count of the pixels whose sign changes.
                size = torch.sigmoid(margin * (2 + step / 3)).sum()
                (slope,) = torch.autograd.grad(sign * size, moved)
                stride = ball.eps * 2 * (1 - step / STEPS) / 3
                moved = ball.project(moved.detach() + stride * slope.sign(), image)
    return min(counts), max(counts)


def patient(model: TorchModel, slices: Sequence[Case], eps: float) -> dict[str, Any]:
    """Certified and attacked ejection fraction of one patient, and what it took."""
    ball, started = Ball("linf", eps, model.bounds), time.process_time()
    counts: dict[str, list[Any]] = {"ED": [], "ES": []}
    attacked: dict[str, list[tuple[int, int]]] = {"ED": [], "ES": []}
    shares, masks = [], {"ED": [], "ES": []}
    for case in slices:
        batch = Batch((case.case_id,), case.image[None], case.target[None].long())
        values = Crown()(model, batch, ball, CaseRng(0, "ef", batch.case_ids))
        phase = str(case.attributes["phase"])
        counts[phase].append(
            [[int(values[f"{end}.{k}"][0]) for end in ("least", "most")] for k in range(CLASSES)]
        )
        keeps = sum(int(values[f"least.{k}"][0]) for k in range(CLASSES)) / case.target.numel()
        shares.append(keeps)
        masks[phase].append(model(batch.image).argmax(dim=1)[0].numpy())
    proved = time.process_time() - started
    for case in slices:
        attacked[str(case.attributes["phase"])].append(reached(model, case.image[None], ball))
    spacing = slices[0].context["spacing"].numpy()
    limits = patient_limits(np.array(counts["ED"]), np.array(counts["ES"]), spacing)
    ed, es = (np.sum(attacked[phase], axis=0) for phase in ("ED", "ES"))
    clean = measure(np.stack([np.stack(masks["ED"]), np.stack(masks["ES"])]), spacing)
    return {
        "patient": slices[0].patient_id, "eps": eps, "clean": clean.lvef,
        "certified": list(limits.lvef),
        "attacked": [
            ejection_fraction(float(ed[0]), float(es[1])),
            ejection_fraction(float(ed[1]), float(es[0])),
        ],
        "pixels": float(np.mean(shares)),
        "seconds": {"proof": proved, "attack": time.process_time() - started - proved},
    }  # fmt: skip


def main() -> int:
    """Ask patient after patient, and print the table of those that are done."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--patients", type=int, default=8)
    options.add_argument("--only", default="0/1", help="K/M: every M-th patient from the K-th on")
    asked = options.parse_args()
    torch.set_num_threads(1)
    cohort = build("cohorts", "synthetic_cine", **COHORT)
    model = load_model({"use": "plain_fcn", "preset": "small", "weights": "shipped:plain_fcn"},
                       cohort=cohort)  # fmt: skip
    names = list(dict.fromkeys(case.patient_id for case in cohort.cases))[: asked.patients]
    first, every = map(int, asked.only.split("/"))
    for name in names[first::every]:
        slices = [case for case in cohort.cases if case.patient_id == name]
        for eps in RADII:
            path = PARTS / f"{name}-{eps * 255:.2f}.json"
            if path.is_file():
                continue
            PARTS.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(patient(model, slices, eps)), encoding="utf-8")
            print(path.name, path.read_text(encoding="utf-8"), flush=True)
    return report()


def report() -> int:
    """Print the table of the patients that are done at every radius, draw it, write it down."""
    done = [json.loads(path.read_text("utf-8")) for path in sorted(PARTS.glob("*.json"))]
    times = Counter(row["patient"] for row in done)
    rows = [row for row in done if times[row["patient"]] == len(RADII)]
    print("\n".join(table(rows)))
    machine = {"cpu": platform.machine(), "torch": torch.__version__, "threads": 1}
    RESULT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", "utf-8")
    drawn = draw("ejection-fraction", 9.0, 4.0, lambda figure: paint(figure, rows))
    PICTURE.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + drawn + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
