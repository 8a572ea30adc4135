"""Models by name: what a plan's `[model]` table stands for."""

import hashlib
import inspect
from pathlib import Path

import torch
from torch import nn

from robustbench_med.cases import Bounds, Cohort, Task
from robustbench_med.components import build, describe, find
from robustbench_med.errors import InputError
from robustbench_med.model import Model, TorchModel
from robustbench_med.onnx_model import OnnxModel
from robustbench_med.shipped import located
from robustbench_med.training.card import Card, read_card
from robustbench_med.training.network import (
    Entry,
    build_seeded,
    is_stage,
    network_settings,
    save_model,
    used,
)
from robustbench_med.training.network import build_network as build_fresh
from robustbench_med.training.weights import file_sha256, fill, network_digest, read_weights

__all__ = [
    "build_network",
    "load_model",
    "model_digest",
    "network_settings",
    "pick_device",
    "save_model",
]


def load_model(
    entry: Entry,
    *,
    cohort: Cohort | None = None,
    device: str = "cpu",
    folder: str | Path | None = None,
) -> Model:
    """Load the model that a plan's model table names.

    Args:
        entry: `use` is a listed network (with `weights`, unless it has no parameters),
            `module:function` or a path to an ONNX file; the rest are settings of the network or
            of the function.
        cohort: What it will be asked about; tells task, bounds and shapes where there is no
            model card.
        device: "auto", "cpu" or "cuda".
        folder: What relative paths start from, usually the plan's folder.

    Raises:
        InputError: If the weights are missing, altered, or of another network or task than
            asked for, or if what the function returns is no model.
        UnknownNameError: If no network has that name.
        UnsupportedError: If the model needs a package that is not installed.
    """
    use, place = used(entry), pick_device(device)
    base = Path(folder) if folder is not None else Path()
    if use.endswith(".onnx"):
        return _load_onnx(entry, cohort, base)
    if ":" in use and not _is_untrained(entry):
        return _load_python(entry, cohort, place)
    if "weights" not in entry and any(is_stage(value) for value in entry.values()):
        return _load_joined(entry, cohort, place, base)
    return _load_trained(entry, cohort, place, base)


def build_network(entry: Entry, cohort: Cohort, *, seed: int = 0) -> nn.Module:
    """Build the network of a plan's model table, ready for training.

    Its weights are fresh, but those of networks that it is made of (pipeline) are read, where
    their tables name a file. The global random state is left as it was.

    Raises:
        InputError: If the settings do not fit the network or the cohort, or weights are missing,
            altered or of another network or task than asked for.
    """
    ready = {
        key: _stage(value, cohort, Path())
        for key, value in entry.items()
        if is_stage(value) and "weights" in value
    }
    return build_fresh(entry, cohort, seed=seed, ready=ready)


def model_digest(model: Model) -> str:
    """Hash of all that decides a model's answers: its own `digest`, or that of its network.

    A model without a `digest` must be a `network`, settings that are plain data, and code.

    Raises:
        InputError: If it has neither, or attributes that cannot be hashed.
    """
    own = getattr(model, "digest", None)
    if isinstance(own, str) and own:
        return own
    network = getattr(model, "network", None)
    if not isinstance(network, nn.Module) or not hasattr(model, "__dict__"):
        raise InputError(
            f"model {type(model).__name__}: expected a digest; add a text attribute `digest` "
            "that changes whenever the model's answers may"
        )
    others = {name: value for name, value in vars(model).items() if value is not network}
    try:
        described = describe({"type": type(model), **others})
    except InputError as error:
        raise InputError(f"model {type(model).__name__}: give it a `digest`: {error}") from error
    return hashlib.sha256(f"{described}{network_digest(network)}".encode()).hexdigest()


def pick_device(name: str) -> str:
    """Turn "auto" into "cuda" where there is one, else "cpu", and check any other name.

    Raises:
        InputError: If torch knows no such device, or finds none here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise InputError(f"device: expected auto, cpu or cuda, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name!r} asked for, torch finds no such device; use auto or cpu")
    return name


def _is_untrained(entry: Entry) -> bool:
    """Whether `use` builds a network that leaves reading `weights` to us."""
    taken = inspect.signature(find("networks", used(entry))).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken)
    return "weights" in entry and not takes_all and "weights" not in [p.name for p in taken]


def _load_trained(entry: Entry, cohort: Cohort | None, device: str, base: Path) -> Model:
    use = used(entry)
    find("networks", use)
    if not isinstance(entry.get("weights"), str | Path):
        return _load_untrained(entry, cohort, device)
    path = located(entry["weights"], base)
    weights, card = read_weights(path), read_card(path)
    if card is not None:
        _check_card(card, path, entry)
    settings = network_settings(entry, card or cohort)
    task, bounds = _facts(entry, cohort, card)
    network = build_seeded(use, settings, seed=0)
    fill(network, weights, path)
    return TorchModel(network.to(device), task, bounds)


def _load_untrained(entry: Entry, cohort: Cohort | None, device: str) -> Model:
    network = _untrained(entry, cohort)
    return TorchModel(network.to(device), *_facts(entry, cohort, None))


def _untrained(entry: Entry, cohort: Cohort | None) -> nn.Module:
    """Build a network that has nothing to train, such as a classical baseline."""
    use = used(entry)
    needed = InputError(f"model {use!r}: expected weights = FILE; train it with: rbmed train PLAN")
    if "weights" in entry or _has_parameters(use):
        raise needed
    network = build_seeded(use, network_settings(entry, cohort), seed=0)
    if next(network.parameters(), None) is not None:
        raise needed
    return network


def _has_parameters(use: str) -> bool:
    """Whether a network has anything to train, as built by default; False if it cannot be."""
    try:
        with torch.device("meta"):
            network = build_seeded(use, {}, seed=0)
    except InputError:
        return False
    return next(network.parameters(), None) is not None


def _load_joined(entry: Entry, cohort: Cohort | None, device: str, base: Path) -> Model:
    """Build a network of other networks, each a model table of its own (pipeline)."""
    if cohort is None:
        raise InputError(f"model {used(entry)!r}: needs a cohort for its task and bounds")
    stages = {
        key: _stage(value, cohort, base) if is_stage(value) else value
        for key, value in entry.items()
        if key != "use"
    }
    network = build_seeded(used(entry), stages, seed=0)
    return TorchModel(network.to(device), cohort.task, cohort.bounds)


def _stage(entry: Entry, cohort: Cohort, base: Path) -> nn.Module:
    """The network of one table; its own card tells what it was trained for."""
    if "weights" not in entry:
        return _untrained(entry, None)
    model = _load_trained(entry, None, "cpu", base)
    if model.task.kind == cohort.task.kind and model.task != cohort.task:
        raise InputError(
            f"model {used(entry)!r}: trained for {_said(model.task)}, cohort {cohort.name!r} has "
            f"{_said(cohort.task)}"
        )
    if not isinstance(model, TorchModel):
        raise InputError(f"model {used(entry)!r}: expected a network, got {type(model).__name__}")
    return model.network


def _load_python(entry: Entry, cohort: Cohort | None, device: str) -> Model:
    use = used(entry)
    made = build("networks", use, **{key: v for key, v in entry.items() if key != "use"})
    if isinstance(made, Model) and isinstance(made.task, Task):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(
            f"model {use!r}: expected a torch module, or a model with task, bounds and a call, "
            f"got {type(made).__name__}"
        )
    if cohort is None:
        raise InputError(
            f"model {use!r}: a bare torch module needs a cohort for its task and bounds; "
            "return TorchModel(network, task, bounds)"
        )
    return TorchModel(made.to(device), cohort.task, cohort.bounds)


def _load_onnx(entry: Entry, cohort: Cohort | None, base: Path) -> Model:
    unknown = [key for key in entry if key not in ("use", "task", "bounds")]
    if unknown:
        raise InputError(f"model {used(entry)!r}: an ONNX file takes no {', '.join(unknown)}")
    return OnnxModel(base / used(entry), *_facts(entry, cohort, None))


def _check_card(card: Card, path: Path, entry: Entry) -> None:
    # `network` is the setting of one that applies another, with the other's weights (slicewise).
    if card.network not in (used(entry), entry.get("network")):
        raise InputError(
            f"weights {path}: its card says {card.network!r}, the plan says {used(entry)!r}"
        )
    found = file_sha256(path)
    if found != card.weights_sha256:
        raise InputError(
            f"weights {path}: altered: expected SHA-256 {card.weights_sha256[:16]} from its "
            f"card, got {found[:16]}; restore the file, or train it again"
        )


def _facts(entry: Entry, cohort: Cohort | None, card: Card | None) -> tuple[Task, Bounds]:
    if card is not None and cohort is not None:
        for what in ("task", "bounds"):
            told, needed = getattr(card, what), getattr(cohort, what)
            if told != needed:
                raise InputError(
                    f"model {used(entry)!r}: trained for {what} {_said(told)}, cohort "
                    f"{cohort.name!r} has {_said(needed)}"
                )
    source = card or cohort
    if source is not None:
        return source.task, source.bounds
    if "task" in entry and "bounds" in entry:
        low, high = entry["bounds"]
        return Task(entry["task"]["kind"], tuple(entry["task"]["classes"])), (low, high)
    raise InputError(
        f"model {used(entry)!r}: task and bounds are not known; give a cohort, "
        "a model card beside the weights, or task = { kind, classes } and bounds"
    )


def _said(fact: Task | Bounds) -> str:
    if isinstance(fact, Task):
        return f"{fact.kind} of {', '.join(fact.classes)}" if fact.classes else fact.kind
    return f"{fact[0]:g} to {fact[1]:g}"
