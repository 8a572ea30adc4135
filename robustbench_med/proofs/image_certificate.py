"""A certificate of how wrong an image can become: a proof, the case, and the limits that follow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.ball import covers, inside
from robustbench_med.proofs.check import check
from robustbench_med.proofs.error_limits import Drawn, drawn, sides
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.image_outputs import extended, linear_over
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.network_form import well_formed
from robustbench_med.proofs.proof import Proof
from robustbench_med.proofs.proof_form import check_set

KINDS = ("reconstruction", "super_resolution")
SLACK = 1e-7
"""What two float64 evaluations of a network may differ by, relative to the norms of its image and
of the reference."""


@dataclass(frozen=True)
class ImageCertificate:
    """A proof about the error of one case's image.

    Attributes:
        network: The model's, written out; the claims are about what `extended` makes of it.
        proof: Claims and what they follow from.
        image: What the network is given.
        target: `(channels, *s)`, the reference.
        free: Of the image's shape, 1 where it may change and 0 where it may not.
        linear: `(m, f)` and `(m,)`, matrix and middle of the linear part, over the inputs that the
            set lets change; None without one. No numbers of it need be believed: any would do.
        about: In words and numbers: `kind` of task, `ball`, `limit` (the NMSE that is to be kept),
            `nmse_limit` and `worst_pixel_limit` (what is proved), `nmse_clean` (at the image).
        falsifier: An image of the set with a larger NMSE than `limit`, if one is known.
    """

    network: Network
    proof: Proof
    image: Floats
    target: Floats
    free: Floats
    linear: tuple[Floats, Floats] | None
    about: Mapping[str, Any]
    falsifier: Floats | None = None


@dataclass(frozen=True)
class Stated:
    """What a certificate says in numbers; see `ImageCertificate.about`."""

    limit: float
    nmse_limit: float
    worst_pixel_limit: float
    nmse_clean: float


def error_proved(certificate: ImageCertificate) -> Stated:
    """Check a certificate of an image's error, and say what holds by it.

    Returns:
        What it states, all of which follows.

    Raises:
        IntegrityError: If the proof does not hold, speaks of a smaller set than the ball, or gives
            less than is stated, with both numbers.
    """
    said = _stated(certificate.about)
    network, inputs = certificate.network, certificate.proof.inputs
    well_formed(network)
    check_set(network, inputs)
    _fits(certificate)
    covers(inputs, certificate.image, certificate.free, certificate.about)
    _clean(certificate, said)
    if certificate.falsifier is not None:
        _breaks(certificate, certificate.falsifier, said)
    found = derived(certificate)
    stated = {"nmse_limit": said.nmse_limit, "worst_pixel_limit": said.worst_pixel_limit}
    for name, limit in (("nmse_limit", found.nmse[1]), ("worst_pixel_limit", found.worst_pixel)):
        if not limit <= stated[name]:
            raise IntegrityError(
                f"certificate: says that {name} is {stated[name]!s}, but only {limit!s} can be "
                "derived"
            )
    return said


def derived(certificate: ImageCertificate) -> Drawn:
    """Check the claims on the extended network, and derive the limits of the error from them.

    Raises:
        IntegrityError: If the linear part has no right form, or a claim does not follow.
    """
    network, proof = certificate.network, certificate.proof
    count = size(network.nodes[-1].shape)
    linear = certificate.linear
    part = None if linear is None else linear_over(proof.inputs, count, *linear)
    whole = extended(network, part, np.zeros((0, count)))
    check(whole, proof)
    with np.errstate(over="ignore", invalid="ignore"):
        return drawn(sides(proof.claims, size(whole.nodes[-1].shape)), part, certificate.target)


def _stated(about: Mapping[str, Any]) -> Stated:
    names = ("limit", "nmse_limit", "worst_pixel_limit", "nmse_clean")
    try:
        found = Stated(*(float(about[name]) for name in names))
        kind, _ = about["kind"], about["ball"]
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"certificate: not one of an image's error: {error!r}") from error
    if kind not in KINDS or not 0 < found.limit < math.inf:
        raise IntegrityError(
            f"certificate: expected a kind of {' or '.join(KINDS)} and a limit above 0, got "
            f"{kind!r} and {found.limit}"
        )
    return found


def _fits(certificate: ImageCertificate) -> None:
    target, wanted = certificate.target, certificate.network.nodes[-1].shape
    if target.shape != wanted or target.dtype != np.float64 or not np.isfinite(target).all():
        raise IntegrityError(
            f"certificate: its reference must be finite and {wanted} float64, got {target.dtype} "
            f"{target.shape}"
        )


def _clean(certificate: ImageCertificate, said: Stated) -> None:
    """Hold network, image and reference against the error that they are said to have together."""
    error, whole = _error(certificate, certificate.image)
    power = float(np.linalg.norm(certificate.target))
    if not abs(error - math.sqrt(max(said.nmse_clean, 0.0)) * power) <= SLACK * whole:
        raise IntegrityError(
            f"certificate: says that its image has the NMSE {said.nmse_clean!s}, but it is "
            f"{(error / power) ** 2 if power else math.nan!s}"
        )


def _breaks(certificate: ImageCertificate, image: Floats, said: Stated) -> None:
    """Hold what is said to falsify a case against the network and the set."""
    inside(certificate.proof.inputs, image)
    error, whole = _error(certificate, image)
    power = float(np.linalg.norm(certificate.target))
    if not error + SLACK * whole >= math.sqrt(said.limit) * power:
        raise IntegrityError(
            f"certificate: its falsifier has the NMSE {(error / power) ** 2!s}, which keeps to "
            f"the limit {said.limit!s}"
        )


def _error(certificate: ImageCertificate, image: Floats) -> tuple[float, float]:
    """Norm of the error that an image is given, and norms of answer and reference together."""
    output, target = values(certificate.network, image)[-1], certificate.target
    whole = np.linalg.norm(output) + np.linalg.norm(target)
    return float(np.linalg.norm(output - target)), float(whole)
