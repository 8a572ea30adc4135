"""What it saves to certify what cheap searches leave standing before AutoAttack searches on.

Networks and cases of `attacks.py`, under three linf radii: `pgd` (20 steps) and `autoattack` on
everything that is left, against the same with a certificate in between. Both must leave the same
cases standing. CPU seconds on one thread, one run each, one after the other.

    python -P benchmarks/certified_survivors.py [--quick] [--folder FOLDER]
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from attack_peers.drawn_squares import small_networks

from robustbench_med.attacks.autoattack import in_turn
from robustbench_med.cases import Batch
from robustbench_med.components import build
from robustbench_med.engine.certified_survivors import CertifiedSurvivors
from robustbench_med.model import Model
from robustbench_med.probes import Attack
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

RESULT = Path(__file__).parent / "results" / "certified_survivors.json"
CERTIFIERS = ("ibp", "crown")


@dataclass(frozen=True)
class Plain:
    """Attacks in turn, each on what is left: the same without a certificate."""

    attacks: tuple[Attack, ...]

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`."""
        return in_turn(self.attacks, model, batch, ball, rng)


def timed(attack: Attack, model: Model, batch: Batch, ball: Ball) -> tuple[Tensor, float]:
    """Which cases stand, `(b,)`, and CPU seconds."""
    started = time.process_time()
    found = attack(model, batch, ball, CaseRng(0, "survivors", batch.case_ids))
    spent = time.process_time() - started
    with torch.no_grad():
        return model(found).argmax(dim=1) == batch.target, spent


def compared(name: str, model: Model, batch: Batch, eps: float) -> list[dict[str, Any]]:
    """One row per certifier, and one without."""
    ball = Ball("linf", eps, (0, 1))
    cheap, dear = build("attacks", "pgd", steps=20), build("attacks", "autoattack")
    stands, plain = timed(Plain((cheap, dear)), model, batch, ball)
    here = {"network": name, "eps": eps, "cases": len(batch), "standing": int(stands.sum())}
    found: list[dict[str, Any]] = [here | {"certifier": "none", "seconds": plain}]
    for certifier in CERTIFIERS:
        around = CertifiedSurvivors(certifier, (cheap,), (dear,))
        still, spent = timed(around, model, batch, ball)
        if not torch.equal(still, stands):
            raise SystemExit(f"certified_survivors: {name}, {ball}, {certifier}: other cases stand")
        proofs = build("certifiers", certifier)
        said = proofs(model, batch, ball, CaseRng(0, "proof", batch.case_ids))
        certified = int(said["certified"].sum())
        found.append(here | {"certifier": certifier, "certified": certified, "seconds": spent})
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The page's table, `docs/faster.md`."""
    lines = ["| network | eps | standing | certificate | certified | CPU seconds |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        here = f"`{row['network']}` | {row['eps']:g} | {row['standing']} of {row['cases']}"
        proof = f"{row['certifier']} | {row.get('certified', '')}"
        lines.append(f"| {here} | {proof} | {row['seconds']:.1f} |")
    return lines


def main() -> None:
    """Print a row per network, radius and certifier; store them unless quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases; nothing is stored")
    parser.add_argument("--folder", type=Path, help="where trained networks are kept")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = asked.folder or Path(tempfile.mkdtemp())
    count = 8 if asked.quick else 60
    rows: list[dict[str, Any]] = []
    for setting in small_networks(folder):
        if setting.name == "masked":
            continue
        whole = setting.batch
        batch = Batch(whole.case_ids[:count], whole.image[:count], whole.target[:count])
        for eps in (0.004, 0.01, 0.03):
            for row in compared(setting.name, setting.model, batch, eps):
                print(json.dumps(row), flush=True)
                rows.append(row)
    if not asked.quick:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1}
        RESULT.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
