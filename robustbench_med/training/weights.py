"""Weights on disk: tensors by name, never code."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.runfolder import write_whole

Weights = Mapping[str, Tensor]
SUFFIXES = (".safetensors", ".pt", ".pth")
SHOWN = 3


def save_weights(path: Path, weights: Weights) -> None:
    """Write weights as safetensors, whole or not at all."""
    # Clones, because safetensors refuses tensors that share memory.
    plain = {n: tensor.detach().cpu().clone().contiguous() for n, tensor in weights.items()}
    write_whole(path, lambda partial: save_file(plain, partial))


def read_weights(path: Path) -> Weights:
    """Read weights by name, onto the CPU; nothing in the file is run.

    Args:
        path: A `.safetensors` file, or a `.pt` or `.pth` file that holds a state dict.

    Raises:
        InputError: If it is missing, damaged, or holds anything but tensors by name.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"weights {path}: expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"weights {path}: not there; if the plan has [train]: rbmed train PLAN")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_state_dict(path)


def fill(network: nn.Module, weights: Weights, path: Path) -> None:
    """Put `weights`, read from `path`, into `network`.

    Raises:
        InputError: If names or shapes differ; the first few of each are told.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    misshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = [
        f"{what}: {', '.join(names[:SHOWN])}{_more(names)}"
        for what, names in (
            ("missing", missing), ("unexpected", unexpected), ("another shape", misshaped)
        )
        if names
    ]  # fmt: skip
    if problems:
        raise InputError(
            f"weights {path}: do not fit {type(network).__name__}: {'; '.join(problems)}; "
            "check preset, in_channels, classes and size"
        )
    network.load_state_dict(weights)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, str]:
    """Name and hash of a file of weights; where it lies does not matter.

    Raises:
        InputError: If it is not there.
    """
    if not path.is_file():
        raise InputError(f"weights {path}: not there")
    return {"file": path.name, "sha256": file_sha256(path)}


def network_digest(network: nn.Module) -> str:
    """Hash of a network's structure, weights and buffers."""
    digest = hashlib.sha256(f"{network!r}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().view(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Weights:
    try:
        weights: Weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"weights {path}: no whole safetensors file: {error}") from error
    return weights


def _read_state_dict(path: Path) -> Weights:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; the error below says it all
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"weights {path}: expected tensors only, got a damaged file or one that runs code "
            "when read; save with safetensors.torch.save_file(network.state_dict(), ...)"
        ) from error
    if not isinstance(state, Mapping):
        raise InputError(f"weights {path}: expected tensors by name, got {type(state).__name__}")
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(
            f"weights {path}: expected tensors only, by name, got other entries: "
            f"{', '.join(others[:SHOWN])}{_more(others)}; save network.state_dict() alone"
        )
    return state


def _more(names: list[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
