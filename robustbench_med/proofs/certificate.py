"""A certificate: a proof, the case it is about, and what follows for that case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.ball import covers, inside
from robustbench_med.proofs.check import check
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import Proof

Kind = Literal["classification", "multilabel", "segmentation"]
Flags = NDArray[np.bool_]
Shape = tuple[int, ...]
_Row = tuple[tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Certificate:
    """A proof about one case.

    Attributes:
        network: What the claims are about.
        proof: Claims and what they follow from.
        image: The case's image.
        target: `()`, `(k,)` or `(*s)`: the true class, flags or label map.
        free: Of the image's shape, 1 where it may change and 0 where it may not.
        about: In words and numbers: `kind` of task, `ball` (norm, radius, bounds: the set that the
            proof has to cover), and what else a reader should know.
        falsifier: An image of the set that is answered wrongly, if one is known; no segmentation
            has one, as each of its pixels may have its own.
    """

    network: Network
    proof: Proof
    image: Floats
    target: NDArray[np.int64]
    free: Floats
    about: Mapping[str, Any]
    falsifier: Floats | None = None


def proved_share(certificate: Certificate) -> float:
    """Check a certificate, and say what share of the case keeps its true answer by it.

    Returns:
        The share of pixels of a segmentation; otherwise 1 or 0.

    Raises:
        IntegrityError: If the proof does not hold, or speaks of a smaller set than the ball.
    """
    proof, about = certificate.proof, certificate.about
    covers(proof.inputs, certificate.image, certificate.free, about)
    if certificate.falsifier is not None:
        _breaks(certificate, certificate.falsifier)
    check(certificate.network, proof)
    kind: Kind = about["kind"]
    shape = certificate.network.nodes[-1].shape
    return float(units_proved(proof, certificate.target, shape, kind).mean())


def units_proved(proof: Proof, target: NDArray[np.int64], shape: Shape, kind: Kind) -> Flags:
    """Which answers of a case keep to the truth if all claims hold: `(positions,)` or `(1,)`.

    A position does so if for every other class there is a claim of a positive limit on the margin
    of the true class over it. Of several flags, all must.

    Raises:
        IntegrityError: If the target is none of a network with outputs of that shape.
    """
    found = {
        (tuple(columns.tolist()), tuple(values.tolist()))
        for columns, values, limit in zip(
            proof.claims.columns, proof.claims.values, proof.claims.limits, strict=True
        )
        if limit > 0
    }
    needed = _flag_rows(target) if kind == "multilabel" else _margin_rows(target, shape)
    proved = [all(row in found for row in rows) for rows in needed]
    return np.array([all(proved)] if kind == "multilabel" else proved, dtype=np.bool_)


def _margin_rows(target: NDArray[np.int64], shape: Shape) -> list[list[_Row]]:
    classes, positions = shape[0], size(shape[1:])
    flat = np.asarray(target).ravel()
    if len(flat) != positions or flat.min() < 0 or flat.max() >= classes:
        raise IntegrityError(f"certificate: a target {target.shape} for outputs {shape}")
    return [
        [
            ((int(true) * positions + place, other * positions + place), (1.0, -1.0))
            for other in range(classes)
            if other != true
        ]
        for place, true in enumerate(flat)
    ]


def _flag_rows(target: NDArray[np.int64]) -> list[list[_Row]]:
    return [[((k,), (1.0 if flag > 0 else -1.0,))] for k, flag in enumerate(target.ravel())]


def _breaks(certificate: Certificate, image: Floats) -> None:
    """Hold what is said to falsify a case against the network and the set."""
    inside(certificate.proof.inputs, image)
    shape = certificate.network.nodes[-1].shape
    output = values(certificate.network, image)[-1].ravel()
    target, kind = certificate.target, certificate.about["kind"]
    needed = _flag_rows(target) if kind == "multilabel" else _margin_rows(target, shape)
    margins = [
        sum(factor * output[column] for column, factor in zip(*row, strict=True))
        for rows in needed
        for row in rows
    ]
    # Found in float32: at the border itself its rounding may turn the sign.
    if not min(margins) <= 1e-5 * (1 + np.abs(output).max()):
        raise IntegrityError(
            f"certificate: its falsifier is answered rightly, by a margin of {min(margins)!s}"
        )
