"""Proofs and networks as files: `.npz` for the numbers, `.json` beside it for what they mean."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import Base, Claims, Cut, InputSet, Leaf, Proof

FORMAT = "robustbench_med proof 1"
Arrays = dict[str, NDArray[Any]]
_SIDES = ("low", "high")


def packed(proof: Proof) -> Arrays:
    """Write a proof as arrays by name."""
    inputs, claims = proof.inputs, proof.claims
    arrays: Arrays = {
        "set.low": inputs.low, "set.high": inputs.high, "set.radius": np.array(inputs.radius),
        "claims.columns": claims.columns, "claims.values": claims.values,
        "claims.limits": claims.limits,
    }  # fmt: skip
    if inputs.centre is not None:
        arrays["set.centre"] = inputs.centre
    for place, base in enumerate(proof.bases):
        arrays[f"base{place}.cuts"] = _cuts(base.cuts)
        for part in ("lower", "upper", "slopes"):
            for node, array in getattr(base, part).items():
                arrays[f"base{place}.{part}{node}"] = array
    for place, leaf in enumerate(proof.leaves):
        name = f"leaf{place}"
        arrays[f"{name}.base"], arrays[f"{name}.rows"] = np.array(leaf.base), leaf.rows
        arrays[f"{name}.cuts"] = _cuts(leaf.cuts)
        arrays |= {f"{name}.slopes{node}": array for node, array in leaf.slopes.items()}
        if leaf.multipliers is not None:
            arrays[f"{name}.multipliers"] = leaf.multipliers
    return arrays


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Proof:
    """Read a proof from its arrays; whether it holds is for `check` to say."""
    inputs = InputSet(
        arrays["set.low"], arrays["set.high"], arrays.get("set.centre"),
        float(arrays["set.radius"]),
    )  # fmt: skip
    claims = Claims(arrays["claims.columns"], arrays["claims.values"], arrays["claims.limits"])
    bases: list[Base] = []
    leaves: list[Leaf] = []
    while f"base{len(bases)}.cuts" in arrays:
        name = f"base{len(bases)}"
        parts = (_by_node(arrays, f"{name}.{part}") for part in ("lower", "upper", "slopes"))
        bases.append(Base(_uncut(arrays[f"{name}.cuts"]), *parts))
    while f"leaf{len(leaves)}.base" in arrays:
        name = f"leaf{len(leaves)}"
        leaf = Leaf(
            int(arrays[f"{name}.base"]), arrays[f"{name}.rows"], _uncut(arrays[f"{name}.cuts"]),
            _by_node(arrays, f"{name}.slopes"), arrays.get(f"{name}.multipliers"),
        )  # fmt: skip
        leaves.append(leaf)
    return Proof(inputs, claims, tuple(bases), tuple(leaves))


def save_network(path: Path, network: Network) -> None:
    """Write a network, whole or not at all."""
    arrays: Arrays = {
        f"node{place}.{name}": array
        for place, node in enumerate(network.nodes)
        for name, array in node.arrays.items()
    }
    nodes = [[n.kind, n.inputs, n.shape, dict(n.settings)] for n in network.nodes]
    arrays["nodes"] = np.frombuffer(json.dumps(nodes, sort_keys=True).encode(), dtype=np.uint8)
    _write(path, npz(arrays))


def load_network(path: Path, digest: str | None = None) -> Network:
    """Read a network.

    Args:
        path: Of its file.
        digest: What its digest has to be; None: anything.

    Raises:
        IntegrityError: If the file cannot be read, or holds another network.
    """
    arrays = _read(path)
    try:
        nodes = json.loads(arrays["nodes"].tobytes())
        network = Network(tuple(_node(place, each, arrays) for place, each in enumerate(nodes)))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: not a network: {error!r}") from error
    if digest is not None and network.digest != digest:
        raise IntegrityError(
            f"{path}: not the network that the certificate is about: its SHA-256 is "
            f"{network.digest}, expected {digest}"
        )
    return network


def save_proof(
    path: Path, proof: Proof, about: Mapping[str, Any], more: Mapping[str, NDArray[Any]]
) -> None:
    """Write a proof `path` (.json) and its numbers (.npz), whole or not at all.

    Args:
        path: Ends in .json.
        proof: What is to be kept.
        about: What it is about, in words; must hold `network`, the digest of the network.
        more: Arrays to keep beside it.
    """
    content = npz({**packed(proof), **more})
    numbers = path.with_suffix(".npz")
    _write(numbers, content)
    words = {
        "format": FORMAT,
        **about,
        "numbers": {"file": numbers.name, "sha256": hashlib.sha256(content).hexdigest()},
    }
    text = json.dumps(words, indent=1, sort_keys=True, ensure_ascii=False)
    _write(path, (text + "\n").encode())


def load_proof(path: Path) -> tuple[Proof, dict[str, Any], Arrays]:
    """Read a proof, what it is about, and all arrays that are there.

    Raises:
        IntegrityError: If a file is missing, damaged or altered.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        form, named = about["format"], about["numbers"]
        numbers, digest = path.with_name(Path(named["file"]).name), named["sha256"]
        content = numbers.read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not a readable certificate: {error!r}") from error
    if form != FORMAT:
        raise IntegrityError(f"{path}: expected the format {FORMAT!r}, got {form!r}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise IntegrityError(f"{numbers}: altered or damaged: its SHA-256 is not that of {path}")
    try:
        arrays = _arrays(numbers, content)
        return unpacked(arrays), about, arrays
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{numbers}: not the numbers of a proof: {error!r}") from error


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays as the bytes of a .npz file, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(sorted(arrays.items())))  # type: ignore[arg-type]
    return buffer.getvalue()


def _node(place: int, described: Sequence[Any], arrays: Mapping[str, NDArray[Any]]) -> Node:
    kind, inputs, shape, settings = described
    start = f"node{place}."
    own = {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
    whole = {name: tuple(values) for name, values in settings.items()}
    return Node(kind, tuple(inputs), tuple(shape), own, whole)


def _cuts(cuts: Sequence[Cut]) -> NDArray[np.float64]:
    rows = [(c.node, c.element, _SIDES.index(c.side), c.at) for c in cuts]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _uncut(rows: NDArray[Any]) -> tuple[Cut, ...]:
    return tuple(Cut(int(n), int(e), "high" if s else "low", float(at)) for n, e, s, at in rows)


def _by_node(arrays: Mapping[str, NDArray[Any]], start: str) -> dict[int, NDArray[Any]]:
    return {int(n.removeprefix(start)): a for n, a in arrays.items() if n.startswith(start)}


def _read(path: Path) -> Arrays:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from error
    return _arrays(path, content)


def _arrays(path: Path, content: bytes) -> Arrays:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path}: damaged: {error}") from error


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
