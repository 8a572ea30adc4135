"""What an interrupted training needs to go on as if it had not stopped.

    epoch-0003.safetensors   weights after that epoch
    state.pt                 optimiser, curve and identity; names the weights it belongs to

The state is written last and whole, so the pair always fits. Nothing here unpickles.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustbench_med.errors import InputError
from robustbench_med.runfolder import write_whole
from robustbench_med.training.weights import read_weights, save_weights

Row = dict[str, float]
Identity = Mapping[str, object]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stood after its last finished epoch.

    Attributes:
        identity: Settings, cohort and network; another training must not continue it.
        curve: One row per finished epoch.
        weights: Of the network, by name.
        optimiser: State of the optimiser.
        scaler: State of the loss scaling; empty without mixed precision.
    """

    identity: Identity
    curve: list[Row]
    weights: Mapping[str, torch.Tensor]
    optimiser: dict[str, Any]
    scaler: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then delete the weights it replaces."""
    weights = folder / f"epoch-{len(checkpoint.curve):04d}.safetensors"
    save_weights(weights, checkpoint.weights)
    state = {
        "identity": json.dumps(checkpoint.identity, sort_keys=True),
        "weights": weights.name,
        "curve": checkpoint.curve,
        "optimiser": checkpoint.optimiser,
        "scaler": checkpoint.scaler,
    }
    write_whole(folder / "state.pt", lambda partial: torch.save(state, partial))
    for old in folder.glob("epoch-*.safetensors"):
        if old != weights:
            old.unlink()


def load(folder: Path) -> Checkpoint | None:
    """Read the checkpoint in `folder`; None where there is none.

    Raises:
        InputError: If it is there and cannot be read.
    """
    path = folder / "state.pt"
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = read_weights(folder / state["weights"])
        identity = json.loads(state["identity"])
        return Checkpoint(identity, state["curve"], weights, state["optimiser"], state["scaler"])
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise InputError(
            f"{folder}: the checkpoint there cannot be read; delete the folder to start anew "
            f"({str(error).splitlines()[0]})"
        ) from error


def refuse_another(folder: Path, found: Identity, needed: Identity) -> None:
    """Raise `InputError` naming what differs, if `found` is another training than `needed`."""
    needed = json.loads(json.dumps(needed))
    different = [
        f"{name} was {found.get(name)!r}, is now {needed.get(name)!r}"
        for name in sorted({*found, *needed})
        if found.get(name) != needed.get(name)
    ]
    if different:
        raise InputError(
            f"{folder}: the checkpoint there is of another training: {'; '.join(different)}; "
            "restore these, or delete the folder to start anew"
        )
