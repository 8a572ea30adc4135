"""Certificates as files: one for each case, and one for each network that they share."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.certificate import Certificate
from robustbench_med.proofs.files import (
    Arrays,
    load_network,
    load_proof,
    save_network,
    save_proof,
)
from robustbench_med.proofs.image_certificate import KINDS, ImageCertificate
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import Proof
from robustbench_med.proofs.statement import AnyCertificate

NETWORKS = "networks"


def save_certificate(folder: Path, group: str, certificate: AnyCertificate) -> Path:
    """Write `folder/group/CASE.json` and .npz, and the network unless it is there.

    Args:
        folder: Of all certificates.
        group: Folder in it, for certificates of one origin.
        certificate: Its `about` names the case; the file is named by a hash of that.
    """
    digest = certificate.network.digest
    network = folder / NETWORKS / f"{digest}.npz"
    if not network.is_file():
        save_network(network, certificate.network)
    name = hashlib.sha256(str(certificate.about["case_id"]).encode()).hexdigest()[:16]
    path = folder / group / f"{name}.json"
    more: Arrays = {
        "case.image": certificate.image, "case.target": certificate.target,
        "case.free": certificate.free,
    }  # fmt: skip
    if certificate.falsifier is not None:
        more["case.falsifier"] = certificate.falsifier
    if isinstance(certificate, ImageCertificate) and certificate.linear is not None:
        more["linear.matrix"], more["linear.middle"] = certificate.linear
    save_proof(path, certificate.proof, {**certificate.about, "network": digest}, more)
    return path


def load_certificate(path: Path, known: dict[str, Network] | None = None) -> AnyCertificate:
    """Read a certificate, its network from the folder `networks` beside its group.

    Args:
        path: Of the .json file.
        known: Networks by digest that need not be read again; what is read is added.

    Raises:
        IntegrityError: If a file is missing, damaged or altered, or the network is another.
    """
    proof, about, arrays = load_proof(path)
    known = {} if known is None else known
    try:
        digest = str(about["network"])
        if digest not in known:
            known[digest] = load_network(path.parents[1] / NETWORKS / f"{digest}.npz", digest)
        if about["kind"] in KINDS:
            return _of_image(known[digest], proof, about, arrays)
        image, free = (np.asarray(arrays[f"case.{n}"], np.float64) for n in ("image", "free"))
        target = np.asarray(arrays["case.target"], np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: not a certificate: {error!r}") from error
    falsifier = arrays.get("case.falsifier")
    return Certificate(known[digest], proof, image, target, free, about, falsifier)


def _of_image(
    network: Network, proof: Proof, about: Mapping[str, Any], arrays: Arrays
) -> ImageCertificate:
    image, target, free = (
        np.asarray(arrays[f"case.{name}"], np.float64) for name in ("image", "target", "free")
    )
    linear = None
    if "linear.matrix" in arrays:
        linear = arrays["linear.matrix"], arrays["linear.middle"]
    falsifier = arrays.get("case.falsifier")
    return ImageCertificate(network, proof, image, target, free, linear, about, falsifier)


def certificates_in(folder: Path) -> Iterator[Path]:
    """List certificates, by group and name."""
    yield from sorted(folder.glob("*/*.json"))


def digest_of_all(folder: Path) -> dict[str, int | str]:
    """Count certificates, and hash their names and contents: of one that is gone, it tells too."""
    digest, count = hashlib.sha256(), 0
    for path in certificates_in(folder):
        digest.update(f"{path.parent.name}/{path.name}".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        count += 1
    return {"count": count, "sha256": digest.hexdigest()}
