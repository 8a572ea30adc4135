"""What an interrupted training needs to go on as if it had not stopped.

    epoch-0003.safetensors     weights after that epoch
    average-0003.safetensors   their moving average, where one is kept
    best-0002.safetensors      weights of the lowest validation loss, where training may stop early
    state.pt                   optimiser, curve and identity; names the weights it belongs to

The state is written last and whole, so the files always fit. Nothing here unpickles.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustbench_med.errors import InputError
from robustbench_med.runfolder import write_whole
from robustbench_med.training.weights import Weights, read_weights, save_weights

Row = dict[str, float]
Identity = Mapping[str, object]


@dataclass(frozen=True)
class Kept:
    """Weights of some epoch."""

    epoch: int
    weights: Weights


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stood after its last finished epoch.

    Attributes:
        identity: Settings, cohort and network; another training must not continue it.
        curve: One row per finished epoch.
        kept: Weights by what they are: `epoch`, and where there are any `average` and `best`.
        optimiser: State of the optimiser.
        scaler: State of the loss scaling; empty without mixed precision.
        steps: That the average is over.
    """

    identity: Identity
    curve: list[Row]
    kept: Mapping[str, Kept]
    optimiser: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    steps: int = 0


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then delete the weights it replaces."""
    files = {what: f"{what}-{kept.epoch:04d}.safetensors" for what, kept in checkpoint.kept.items()}
    for what, kept in checkpoint.kept.items():
        # Those of an earlier epoch were written then.
        if kept.epoch == len(checkpoint.curve):
            save_weights(folder / files[what], kept.weights)
    state = {
        "identity": json.dumps(checkpoint.identity, sort_keys=True),
        "files": files,
        "curve": checkpoint.curve,
        "optimiser": checkpoint.optimiser,
        "scaler": checkpoint.scaler,
        "steps": checkpoint.steps,
    }
    write_whole(folder / "state.pt", lambda partial: torch.save(state, partial))
    for old in folder.glob("*-*.safetensors"):
        if old.name not in files.values():
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
        kept = {
            what: Kept(int(Path(name).stem.rpartition("-")[2]), read_weights(folder / name))
            for what, name in state["files"].items()
        }
        identity = json.loads(state["identity"])
        return Checkpoint(
            identity, state["curve"], kept, state["optimiser"], state["scaler"], state["steps"]
        )
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError,
            AttributeError, ValueError) as error:  # fmt: skip
        raise InputError(
            f"{folder}: the checkpoint there cannot be read; delete the folder to start anew "
            f"({str(error).splitlines()[0]})"
        ) from error


def set_aside(folder: Path) -> Path | None:
    """Copy the weights of the last finished epoch to a file beside `folder`; None without one."""
    found = load(folder)
    if found is None:
        return None
    aside = folder.with_name(f"{folder.stem}.last-good.safetensors")
    save_weights(aside, found.kept["epoch"].weights)
    return aside


def refuse_another(folder: Path, found: Checkpoint, needed: Identity) -> None:
    """Raise `InputError` naming what differs, if `found` is of another training than `needed`."""
    needed, own = json.loads(json.dumps(needed)), found.identity
    different = [
        f"{name} was {own.get(name)!r}, is now {needed.get(name)!r}"
        for name in sorted({*own, *needed})
        if own.get(name) != needed.get(name)
    ]
    if different:
        last = folder / f"epoch-{len(found.curve):04d}.safetensors"
        raise InputError(
            f"{folder}: the checkpoint there is of another training: {'; '.join(different)}; "
            "restore these, or delete the folder to start anew; to go on from its weights, move "
            f"{last.name} out of it first and name it as start in [train]"
        )
