"""What is proved about the error of one case's image, and the certificate of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.certify.about import about_network
from robustbench_med.certify.audit import audit, sampled
from robustbench_med.certify.image_limits import ErrorLimits, Upto, error_limits
from robustbench_med.certify.lowering import Lowered
from robustbench_med.certify.margin import and_negated, identity_rows
from robustbench_med.certify.region import Region
from robustbench_med.certify.written import input_set
from robustbench_med.errors import CaseError, IntegrityError
from robustbench_med.proofs.image_certificate import ImageCertificate
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.statement import proved

ARITHMETIC = (
    "real arithmetic of the network as written out, its weights taken as they are; limits derived "
    "in float64 with every rounding accounted for. Inference in float32 differs from that by its "
    "own rounding."
)


@dataclass(frozen=True)
class ImageCase:
    """One case of a network that gives an image and could be written out.

    Attributes:
        lowered: The network, written out.
        network: The same in torch, in float64.
        kind: Of task: "reconstruction" or "super_resolution".
        one: The set, in float64.
        free: Of the image's shape, 1 for what may change and 0 for what may not.
        target: The truth, `(channels, *s)`, in float64.
        limit: The NMSE that is to be kept.
        upto: Last rung.
        about: What the certificate should say besides.
    """

    lowered: Lowered
    network: nn.Module
    kind: str
    one: Region
    free: Floats
    target: Tensor
    limit: float
    upto: Upto
    about: Mapping[str, Any]


def settle_image(case: ImageCase, noise: Tensor) -> tuple[dict[str, float], ImageCertificate]:
    """Bound the error, hold the limits against images of the set, and have the proof checked.

    Args:
        case: The case.
        noise: `(n, c, *s)`, uniform on [0, 1).

    Returns:
        Values by metric, and the certificate of all that was proved.

    Raises:
        CaseError: If output or target is not finite or does not fit.
        IntegrityError: If a sampled image breaks a limit, or the checker refuses the proof.
    """
    output = case.network(case.one.centre)[0]
    power = _power(output, case.target)
    truth = case.target.numpy().reshape(case.lowered.network.nodes[-1].shape)
    inputs = input_set(case.one)
    limits = error_limits(case.lowered.network, inputs, truth, upto=case.upto)
    points = case.one.points(noise.double().cpu())
    seen = sampled(case.network, points)
    _audited(seen, limits, case.target, case.lowered.tolerance)
    clean = float((output - case.target).square().sum()) / power
    reached = (seen - case.target.flatten()).square().sum(dim=1) / power
    worst = int(reached.argmax())
    # Stored in float32, rounded upwards: what is recorded is a limit, too.
    nmse, voxel = (_upwards(each) for each in (limits.nmse[1], limits.worst_pixel))
    certified = nmse <= case.limit
    falsified = not certified and max(clean, float(reached[worst])) > case.limit
    values = {"nmse_limit": nmse, "nmse_clean": clean, "worst_pixel_limit": voxel}
    about = {
        "kind": case.kind, "arithmetic": ARITHMETIC, **about_network(case.lowered),
        **case.about, "limit": case.limit,
        **{name: _number(value) for name, value in values.items()},
    }  # fmt: skip
    linear = limits.linear
    certificate = ImageCertificate(
        case.lowered.network, limits.proof, case.one.centre[0].numpy(), truth, case.free,
        None if linear is None else (linear.matrix, linear.middle), about,
    )  # fmt: skip
    if falsified:
        certificate = replace(certificate, falsifier=points[worst].numpy())
    checked = certified and proved(certificate).share == 1
    answers = {
        "certified": float(certified), "falsified": float(falsified),
        "undecided": float(not (certified or falsified)),
    }  # fmt: skip
    return {**answers, **values, "checked": float(checked)}, certificate


def _power(output: Tensor, target: Tensor) -> float:
    if not output.isfinite().all():
        raise CaseError("the model's output is not finite")
    if target.shape != output.shape or not target.isfinite().all():
        raise CaseError(
            f"the target must be finite and {tuple(output.shape)}, as the output, got "
            f"{tuple(target.shape)}"
        )
    if not (power := float(target.square().sum())) > 0:
        raise CaseError("the target is 0 everywhere, and an error relative to it undefined")
    return power


def _upwards(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def _number(value: float) -> float | str:
    """An infinite number as text, as not every reader of JSON knows it."""
    return value if math.isfinite(value) else str(value)


def _audited(seen: Tensor, limits: ErrorLimits, target: Tensor, tolerance: float) -> None:
    """Hold sampled images against the limits of each value and of the energy."""
    slack = max(1e-7, 10 * tolerance)  # of a network that answers in float64
    lower = torch.from_numpy(np.concatenate([limits.low.ravel(), -limits.high.ravel()]))
    audit(seen, and_negated(identity_rows(seen.shape[1], seen)), lower, slack)
    energy = float((seen - target.flatten()).square().sum(dim=1).max())
    if not energy <= limits.energy[1] * (1 + slack) + slack:
        raise IntegrityError(
            f"image_error: certificate void: the energy of the error is bounded by "
            f"{limits.energy[1]:.9g}, but an image of the set reaches {energy:.9g}"
        )
