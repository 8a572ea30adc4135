"""Pixels certified per second: the ladder against one call of auto-LiRPA over all pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certify_parts.clock import in_turn, peak_mib, timed
from certify_parts.drawn import discs_and_rings
from certify_parts.trained import BOUNDS, FCN_SIZE, fcn
from robustbench_med.certify.ladder import Climbed, Effort, Rows, climb
from robustbench_med.certify.lirpa import lowest
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.margin import SparseRows, class_margins
from robustbench_med.certify.region import Region, box
from robustbench_med.certify.trace import trace
from robustbench_med.proofs.check import check
from robustbench_med.proofs.files import load_network, load_proof, save_network, save_proof
from robustbench_med.proofs.proof import InputSet

HELD_OUT, COMPARED = 2, 256
RADII = (1 / 255, 2 / 255)


@dataclass(frozen=True)
class Question:
    """Which pixels of one image keep their class within a radius.

    Attributes:
        network: The segmenter.
        image: `(1, 1, h, w)`.
        around: The set.
        rows: Margins of the network's own answer at every pixel.
    """

    network: nn.Module
    image: Tensor
    around: Region
    rows: SparseRows

    @property
    def inputs(self) -> InputSet:
        """The same set, for a proof."""
        return InputSet(self.around.low[0].double().numpy(), self.around.high[0].double().numpy())

    def ladder(self) -> Climbed:
        """Write the network out and climb to CROWN."""
        written = lowered(self.network, self.image).network
        return climb(written, self.inputs, self._written(slice(None)), Effort("crown"))

    def close(self, some: np.ndarray) -> np.ndarray:
        """Limits of some rows by CROWN to its end."""
        written = lowered(self.network, self.image).network
        effort = Effort("crown", close=True)
        return climb(written, self.inputs, self._written(some), effort).limits

    def engine(self) -> Tensor:
        """Limits of all rows by auto-LiRPA, in matrix mode, in chunks that fit in memory."""
        return lowest(trace(self.network, self.image), self.around, self.rows, "crown")

    def _written(self, some: Any) -> Rows:  # noqa: ANN401
        columns, values = self.rows.columns.numpy()[some], self.rows.values.double().numpy()[some]
        return Rows(columns, values)


def asked(folder: Path, index: int, eps: float, *, quick: bool) -> Question:
    """About a held-out image; a quick run asks about a small one."""
    network = fcn(folder, quick=quick)
    size = 16 if quick else FCN_SIZE
    image = discs_and_rings(index + 1, HELD_OUT, size)[0][index:]
    around = box((image - eps).clamp(*BOUNDS), (image + eps).clamp(*BOUNDS))
    with torch.no_grad():
        output = network(image)[0]
    return Question(network, image, around, class_margins(output, output.argmax(dim=0)))


def speed(folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """A row of figures for each held-out image and radius."""
    found = []
    for index in range(1 if quick else 3):
        for eps in RADII:
            one = asked(folder, index, eps, quick=quick)
            found.append({"image": index, "eps": eps, **_compared(one, 1 if quick else 3)})
    return found


def _compared(one: Question, repeats: int) -> dict[str, Any]:
    written = lowered(one.network, one.image).network
    climbed, engine = one.ladder(), one.engine().double().numpy()  # and both warm
    seconds = in_turn(
        {
            "ladder": one.ladder, "engine": one.engine,
            "checker": lambda: check(written, climbed.proof),
        },
        repeats,
    )  # fmt: skip
    count = min(COMPARED, len(one.rows))
    some = np.sort(np.random.default_rng(0).choice(len(one.rows), count, replace=False))
    theirs = engine[some]
    looser = theirs - one.close(some)
    return {
        "pixels": one.image.numel(),
        "certified": {"ladder": _pixels(climbed.limits, one), "engine": _pixels(engine, one)},
        "seconds": seconds,
        "looser_by": float(looser.max()),
        "tighter_by": float(-looser.min()),
        "median_limit": float(np.median(theirs)),
        "compared": count,
    }


def _pixels(limits: np.ndarray, one: Question) -> int:
    others = len(limits) // one.image.numel()
    return int((limits.reshape(-1, others) > 0).all(axis=1).sum())


def memory(folder: Path, what: str, *, quick: bool) -> dict[str, float]:
    """Peak memory with one thing done in this process, beside imports; the smaller radius."""
    files = folder / "speed_network.npz", folder / "speed_proof.json"
    if what == "checker":
        written, proof = load_network(files[0]), load_proof(files[1])[0]
        before = peak_mib()
        check(written, proof)
        return {"before_mib": before, "peak_mib": peak_mib()}
    one = asked(folder, 0, RADII[0], quick=quick)
    before = peak_mib()
    if what == "ladder":
        climbed = one.ladder()
        peak = peak_mib()
        save_network(files[0], lowered(one.network, one.image).network)
        save_proof(files[1], climbed.proof, {"network": "speed"}, {})
        return {"before_mib": before, "peak_mib": peak}
    _, seconds = timed(one.engine)
    return {"before_mib": before, "peak_mib": peak_mib(), "seconds": seconds}
