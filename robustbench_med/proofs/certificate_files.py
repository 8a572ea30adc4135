"""Certificates as files: one for each case, and one for each network that they share."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.certificate import Certificate
from robustbench_med.proofs.files import load_network, load_proof, save_network, save_proof
from robustbench_med.proofs.network import Network

NETWORKS = "networks"


def save_certificate(folder: Path, group: str, certificate: Certificate) -> Path:
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
    more = {"case.image": certificate.image, "case.target": certificate.target}
    if certificate.falsifier is not None:
        more["case.falsifier"] = certificate.falsifier
    save_proof(path, certificate.proof, {**certificate.about, "network": digest}, more)
    return path


def load_certificate(path: Path, known: dict[str, Network] | None = None) -> Certificate:
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
        image, target = np.float64(arrays["case.image"]), np.int64(arrays["case.target"])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: not a certificate: {error!r}") from error
    if digest not in known:
        known[digest] = load_network(path.parents[1] / NETWORKS / f"{digest}.npz", digest)
    falsifier = arrays.get("case.falsifier")
    return Certificate(
        known[digest], proof, np.asarray(image), np.asarray(target), about, falsifier
    )


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
