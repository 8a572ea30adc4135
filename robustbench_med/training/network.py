"""A plan's network: built fresh for training, kept with its card once trained."""

import inspect
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

import robustbench_med
from robustbench_med.cases import Cohort
from robustbench_med.components import build, find
from robustbench_med.errors import InputError
from robustbench_med.training.card import Card, cohort_digest, read_card, write_card
from robustbench_med.training.distributed import here
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import describe_file, file_sha256, save_weights

Entry = Mapping[str, Any]
OWN_KEYS = ("use", "weights", "task", "bounds")


def build_network(
    entry: Entry,
    cohort: Cohort,
    *,
    seed: int = 0,
    ready: Mapping[str, nn.Module] = MappingProxyType({}),
) -> nn.Module:
    """Build the network of a plan's model table, with fresh weights, ready for training.

    The global random state is left as it was.

    Args:
        entry: The model table.
        cohort: What it will learn from.
        seed: Of the weights.
        ready: Networks that it is made of and that stand already, by their keys in the table.

    Raises:
        InputError: If the settings do not fit the network or the cohort.
    """
    return build_seeded(used(entry), {**network_settings(entry, cohort), **ready}, seed)


def save_model(  # noqa: PLR0913
    weights: str | Path,
    entry: Entry,
    network: nn.Module,
    cohort: Cohort,
    settings: TrainSettings,
    curve: Sequence[Mapping[str, float]],
    *,
    validation: Cohort | None = None,
) -> Card:
    """Write a trained network's weights (safetensors), and its card beside them.

    Args:
        weights: Where to.
        entry: The plan's model table.
        network: As trained.
        cohort: That it was trained on.
        settings: That it was trained with.
        curve: What `train` returned.
        validation: Cohort that was scored after each epoch.

    Raises:
        InputError: If the path does not end in .safetensors, or cannot be written.
    """
    path = Path(weights)
    if path.suffix != ".safetensors":
        raise InputError(f"weights {path}: expected a path that ends in .safetensors")
    save_weights(path, network.state_dict())
    card = Card(
        network=used(entry),
        settings=network_settings(entry, cohort),
        task=cohort.task,
        bounds=cohort.bounds,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        weights_sha256=file_sha256(path),
        cohort=cohort.name,
        cohort_digest=cohort_digest(cohort),
        validation_digest=cohort_digest(validation) if validation is not None else "",
        processes=here().count,
        training=settings.described(),
        curve=list(curve),
        versions=_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_card(path, card)
    return card


def used(entry: Entry) -> str:
    """Name that a plan's model table uses."""
    use = entry.get("use")
    if not isinstance(use, str) or not use:
        raise InputError(f"model: expected use = NAME, got {use!r}")
    return use


def network_settings(entry: Entry, known: Cohort | Card | None) -> dict[str, Any]:
    """Join the settings in a plan's model table with those that cohort or card decide.

    Without a card, the network's defaults fill the rest. The tables of networks that it is made
    of become settings in full, with the digest of the weights that they start from.

    Raises:
        InputError: If the two contradict each other.
    """
    use = used(entry)
    stages = {key: value for key, value in entry.items() if is_stage(value)}
    plain = {key: value for key, value in entry.items() if key not in stages}
    if isinstance(known, Card):
        _check_stages(use, stages, known)
        return _joined(plain, known.settings, "model card")
    full = {key: _stage_settings(stage) for key, stage in stages.items()}
    return {**_defaults(use), **_joined(plain, _known_from(known, use), "cohort"), **full}


def is_stage(value: object) -> bool:
    """Whether a setting is a model table: a network that another one is made of."""
    return isinstance(value, Mapping) and "use" in value


def card_settings(card: Card) -> dict[str, Any]:
    """What a trained network is built with; settings younger than its card are as by default."""
    return _defaults(card.network) | dict(card.settings)


def build_seeded(use: str, settings: Mapping[str, Any], seed: int) -> nn.Module:
    """Build a network whose weights `seed` decides; the global random state stays."""
    built = {
        key: _build_stage(value, seed) if is_stage(value) else value
        for key, value in settings.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build("networks", use, **built)
    if not isinstance(network, nn.Module):
        raise InputError(f"network {use!r}: expected a torch module, got {type(network).__name__}")
    return network


def _build_stage(settings: Mapping[str, Any], seed: int) -> nn.Module:
    own = {key: value for key, value in settings.items() if key not in OWN_KEYS}
    return build_seeded(used(settings), own, seed)


def _stage_settings(stage: Entry) -> dict[str, Any]:
    """What one of several networks is built with, and the weights that it starts from."""
    path = Path(stage["weights"]) if "weights" in stage else None
    start = {} if path is None else {"weights": describe_file(path)}
    card = None if path is None else read_card(path)
    if card is None:
        return {"use": used(stage), **network_settings(stage, None), **start}
    told = network_settings(stage, card)
    return {"use": used(stage), **card_settings(card), **told, **start}


def _check_stages(use: str, stages: Mapping[str, Entry], card: Card) -> None:
    """Refuse a table that the card contradicts; which weights it began with is past."""
    wrong = [
        f"{key}.{name} is {value!r} in the plan, {_plain(there.get(name))!r} in the model card"
        for key, stage in stages.items()
        for there in [card.settings.get(key, {})]
        for name, value in stage.items()
        if name not in ("weights", "task", "bounds") and _plain(value) != there.get(name)
    ]
    if wrong:
        raise InputError(f"model {use!r}: {'; '.join(wrong)}")


def _known_from(cohort: Cohort | None, use: str) -> dict[str, Any]:
    """Settings that a cohort decides, of those that the network takes."""
    if cohort is None:
        return {}
    if len(cohort) == 0:
        raise InputError(f"cohort {cohort.name!r}: expected at least 1 case, got 0")
    shape = cohort.cases[0].image.shape
    known: dict[str, Any] = {"in_channels": shape[0], "size": list(shape[1:])}
    if cohort.task.classes:
        known["classes"] = len(cohort.task.classes)
    taken = inspect.signature(find("networks", use)).parameters
    return {name: value for name, value in known.items() if name in taken}


def _joined(entry: Entry, known: Mapping[str, Any], source: str) -> dict[str, Any]:
    told = {key: _plain(value) for key, value in entry.items() if key not in OWN_KEYS}
    wrong = [
        f"{key} is {told[key]!r} in the plan, {known[key]!r} in the {source}"
        for key in told
        if key in known and told[key] != _plain(known[key])
    ]
    if wrong:
        raise InputError(f"model {used(entry)!r}: {'; '.join(wrong)}")
    return {**known, **told}


def _defaults(use: str) -> dict[str, Any]:
    """What the network is built with where nobody says otherwise, preset for one."""
    taken = inspect.signature(find("networks", use)).parameters.values()
    defaults = {p.name: p.default for p in taken if p.default is not p.empty}
    return {name: value for name, value in defaults.items() if isinstance(value, str | int | float)}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _versions() -> dict[str, str]:
    return {
        "robustbench_med": robustbench_med.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
