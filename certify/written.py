"""What is proved about one case of a network that could be written out, and the certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.certify.about import about_network
from robustbench_med.certify.audit import audit
from robustbench_med.certify.ladder import Climbed, Effort, Rows, Rung, climb
from robustbench_med.certify.lowering import Lowered
from robustbench_med.certify.margin import SparseRows, class_margins, sign_margins
from robustbench_med.certify.region import Region
from robustbench_med.certify.search import Found, searched
from robustbench_med.clinical import volume_limits
from robustbench_med.proofs.certificate import Certificate, proved_share
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.proof import InputSet

ARITHMETIC = (
    "real arithmetic of the network as written out, its float32 weights taken as they are; limits "
    "derived in float64 with every rounding accounted for. Inference in float32 differs from that "
    "by its own rounding: a margin counts only above what is needed."
)


@dataclass(frozen=True)
class Case:
    """One case of a network that could be written out.

    Attributes:
        lowered: The network, written out.
        network: The same in torch, in evaluation mode, without a softmax at its end or with one.
        kind: Of task: "classification", "multilabel" or "segmentation".
        one: The set.
        output: `(k, *s)` at its centre: logits.
        target: The truth.
        free: Of the image's shape, 1 for what may change and 0 for what may not.
        needed: What a margin has to be above.
        upto: Last rung.
        about: What the certificate should say besides.
    """

    lowered: Lowered
    network: nn.Module
    kind: str
    one: Region
    output: Tensor
    target: Tensor
    free: Floats
    needed: float
    upto: Rung
    about: Mapping[str, Any]


def input_set(one: Region) -> InputSet:
    """Write the region of one case as a set, its corners taken as they are."""
    low, high, centre = (
        each[0].double().numpy(force=True) for each in (one.low, one.high, one.centre)
    )
    if one.radius is None:
        return InputSet(low, high)
    return InputSet(low, high, centre, float(one.radius[0]))


def settle(case: Case, noise: Tensor) -> tuple[dict[str, Tensor], Certificate]:
    """Search, then prove what the search left, then check the proof as a stranger would.

    Returns:
        Values by metric, each `()`, and the certificate of all that was proved.

    Raises:
        IntegrityError: If an image breaks a limit, or the checker refuses the proof.
    """
    if case.kind == "segmentation":
        return _dense(case, noise)
    rows = (sign_margins if case.kind == "multilabel" else class_margins)(case.output, case.target)
    found = searched(case.network, case.one, rows, noise)
    climbed = _climbed(case, rows, np.zeros(len(rows), bool), found, close=True)
    right = bool((rows.of(case.output.flatten()[None]) > 0).all())
    proved = bool((climbed.limits > case.needed).all()) and right
    broken = bool((found.lowest < 0).any() or climbed.falsifiers) or not right
    certificate = _certificate(case, climbed)
    if broken and not proved:
        certificate = replace(certificate, falsifier=_worst(found, climbed))
    checked = proved and proved_share(certificate) == 1
    values = {
        "certified": float(proved), "falsified": float(broken and not proved),
        "undecided": float(not (proved or broken)), "margin_bound": float(climbed.limits.min()),
        "checked": float(checked),
    }  # fmt: skip
    return {name: torch.tensor(value) for name, value in values.items()}, certificate


def _worst(found: Found, climbed: Climbed) -> Floats:
    """Return the image that breaks a margin most, of those that the search and the splits met."""
    row = int(found.lowest.argmin())
    if found.lowest[row] >= 0 and climbed.falsifiers:
        return next(iter(climbed.falsifiers.values()))
    return found.images[found.image[row]].double().numpy(force=True)


def _dense(case: Case, noise: Tensor) -> tuple[dict[str, Tensor], Certificate]:
    answer = case.output.argmax(dim=0)
    # Margins of the answer, right or wrong: they also say which classes a pixel can take at all.
    rows = class_margins(case.output, answer)
    found = searched(case.network, case.one, rows, noise)
    hopeless = (found.lowest <= 0).numpy(force=True)
    climbed = _climbed(case, rows, hopeless, found, close=False)
    others = len(case.output) - 1
    holds = (climbed.limits > case.needed).reshape(-1, others).all(axis=1)
    right = (answer == case.target).flatten().numpy(force=True)
    broken = (found.lowest < 0).numpy(force=True).reshape(-1, others).any(axis=1) | ~right
    certificate = _certificate(case, climbed)
    share = proved_share(certificate)
    values = {
        "certified": (holds & right).mean(), "falsified": (broken & ~(holds & right)).mean(),
        "undecided": (~broken & ~(holds & right)).mean(), "checked": share,
    }  # fmt: skip
    sets = class_sets(climbed.limits > case.needed, answer.numpy(force=True), len(case.output))
    counts = volume_limits(sets)
    for label, (least, most) in enumerate(counts):
        values |= {f"least.{label}": float(least), f"most.{label}": float(most)}
    return {name: torch.tensor(float(value)) for name, value in values.items()}, certificate


def class_sets(
    proved: NDArray[np.bool_], answer: NDArray[np.int64], classes: int
) -> NDArray[np.bool_]:
    """Which classes each pixel can take, `(k, *s)`, from margins of the answer that are proved.

    Args:
        proved: `((k - 1) * pixels,)`, of the rows that `class_margins` gives for the answer.
        answer: `(*s)`, the network's own on the clean image.
        classes: Number `k`.
    """
    flat = answer.ravel()
    can = np.zeros((classes, len(flat)), dtype=np.bool_)
    can[flat, np.arange(len(flat))] = True
    for place, kept in enumerate(proved.reshape(-1, classes - 1).T):
        other = place + (place >= flat)
        can[other, np.arange(len(flat))] |= ~kept
    return can.reshape(classes, *answer.shape)


def _climbed(
    case: Case, rows: SparseRows, hopeless: NDArray[np.bool_], found: Found, *, close: bool
) -> Climbed:
    columns, values = rows.columns.numpy(force=True), rows.values.double().numpy(force=True)
    left = np.flatnonzero(~hopeless)
    limits: Floats = np.full(len(columns), -np.inf)
    effort = Effort(case.upto, case.needed, close=close)
    climbed = climb(
        case.lowered.network, input_set(case.one), Rows(columns[left], values[left]), effort
    )
    limits[left] = climbed.limits
    with torch.no_grad():
        outputs = torch.cat([case.network(image[None]).flatten(1) for image in found.images])
    audit(outputs, rows, torch.as_tensor(limits).to(outputs), _slack(case))
    falsifiers = {int(left[row]): image for row, image in climbed.falsifiers.items()}
    return Climbed(limits, climbed.proof, falsifiers)


def _slack(case: Case) -> float:
    return max(1e-5, 10 * case.lowered.tolerance)


def _certificate(case: Case, climbed: Climbed) -> Certificate:
    lowered = case.lowered
    about = {
        "kind": case.kind,
        "arithmetic": ARITHMETIC,
        "needed": case.needed,
        **about_network(lowered),
        **case.about,
    }  # fmt: skip
    image = case.one.centre[0].double().numpy(force=True)
    target = np.asarray(case.target.long().numpy(force=True))
    return Certificate(lowered.network, climbed.proof, image, target, case.free, about)
