"""Start from weights that were trained before: fine-tuning, or going on otherwise."""

from pathlib import Path

from torch import nn

from robustbench_med.components import suggest
from robustbench_med.errors import InputError
from robustbench_med.training.card import read_card
from robustbench_med.training.weights import SHOWN, Weights, file_sha256, read_weights


def start_from(network: nn.Module, path: Path, fresh: tuple[str, ...]) -> None:
    """Put the weights in `path` into `network`, but leave the parameters of `fresh` as they are.

    Args:
        network: Built; changed in place.
        path: A file of weights.
        fresh: Names of parameters, or of modules for all that is in them.

    Raises:
        InputError: If the file is not there or was altered, names or shapes differ beyond
            `fresh`, or `fresh` names nothing.
    """
    weights, own = read_weights(path), network.state_dict()
    card = read_card(path)
    if card is not None and card.weights_sha256 != file_sha256(path):
        raise InputError(f"train: start {path}: altered since its model card was written")
    for name in fresh:
        if not any(_is_in(known, (name,)) for known in (*own, *weights)):
            known = list(dict.fromkeys(n.partition(".")[0] for n in own))
            raise InputError(f"train: start_except: no parameter {name!r}; {suggest(name, known)}")
    taken = {name: tensor for name, tensor in weights.items() if not _is_in(name, fresh)}
    needed = {name: tensor for name, tensor in own.items() if not _is_in(name, fresh)}
    _refuse_misfit(path, taken, needed)
    network.load_state_dict({**own, **taken})


def _refuse_misfit(path: Path, taken: Weights, needed: Weights) -> None:
    shapes = {
        name: f"{name} is {tuple(taken[name].shape)} there, {tuple(tensor.shape)} here"
        for name, tensor in needed.items()
        if name in taken and taken[name].shape != tensor.shape
    }
    missing = {name: f"{name} is not there" for name in needed if name not in taken}
    beyond = {name: f"{name} is not here" for name in taken if name not in needed}
    wrong = {**shapes, **missing, **beyond}
    if wrong:
        told = "; ".join(list(wrong.values())[:SHOWN])
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        parents = list(dict.fromkeys(name.rpartition(".")[0] or name for name in wrong))
        raise InputError(
            f"train: start {path}: {told}{more}; to leave these as initialised, "
            f"start_except = {parents[:SHOWN]}{' ...' if len(parents) > SHOWN else ''}"
        )


def _is_in(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
