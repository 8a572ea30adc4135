"""Images crafted on another model, put to the one under test."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_med.attacks.gradient import per_case
from robustbench_med.attacks.inner import Inner, attack_of
from robustbench_med.attacks.queries import ask, goal_of
from robustbench_med.cases import Batch
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.model import Model, TorchModel
from robustbench_med.shipped import located
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

Surrogate = Mapping[str, object] | Model | nn.Module


@dataclass(frozen=True)
class Transfer:
    """Search on a surrogate, and keep what is worse for the model under test too.

    Needs no gradient of the model under test: it shows gradients that are hidden, not absent.

    Attributes:
        surrogate: In a plan a table: `use`, a network or `module:function` that returns a network
            or a model; `weights`, a .safetensors file, its path from the working directory, or
            `shipped:NAME`; the rest are settings of the network, such as `in_channels` and
            `classes`, which nothing fills in. In Python also a model or a network. A network
            answers the task of the model under test, in its bounds.
        inner: The attack on the surrogate, by name, as a table, or itself.

    Source: Papernot et al., AsiaCCS 2017, arXiv:1602.02697.
    """

    surrogate: Surrogate
    inner: Inner = "pgd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", attack_of(self.inner))
        if isinstance(self.surrogate, Mapping):
            object.__setattr__(self, "surrogate", _checked(self.surrogate))
        elif not isinstance(self.surrogate, (Model, nn.Module)):
            raise InputError(f"transfer: surrogate must be a table or a model, got "
                             f"{type(self.surrogate).__name__}")  # fmt: skip

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`; raises what the inner attack raises, and the following.

        Raises:
            InputError: If the surrogate's task is not the model's.
        """
        if ball.eps == 0:
            return batch.image
        found = attack_of(self.inner)(self.beside(model, batch.image), batch, ball, rng)
        found = ball.project(found, batch.image, batch.context)
        goal = goal_of(None, model.task)
        (before, wrong), (after, broke) = (
            ask(model, batch, image, goal) for image in (batch.image, found)
        )
        kept = (after > before) | (broke & ~wrong)
        return found.where(per_case(kept, found), batch.image)

    def beside(self, model: Model, like: Tensor) -> Model:
        """Return the surrogate, ready for the cases of `model`, where and of the type of `like`.

        Raises:
            InputError: If its task is not the model's.
        """
        made = self._made
        if isinstance(made, nn.Module):
            made = TorchModel(made.to(like), model.task, model.bounds)
        if made.task != model.task:
            raise InputError(f"transfer: surrogate answers {made.task}, the model {model.task}")
        return made

    @cached_property
    def _made(self) -> Model | nn.Module:
        """The surrogate, built when first used."""
        if not isinstance(self.surrogate, Mapping):
            return self.surrogate
        settings = {**self.surrogate}
        use, weights = str(settings.pop("use")), settings.pop("weights", None)
        settings.pop("sha256", None)
        with torch.random.fork_rng(()):
            torch.manual_seed(0)
            made = build("networks", use, **settings)
        if weights is not None:
            _fill(made, str(located(str(weights), Path())))
        if not isinstance(made, (nn.Module, Model)):
            raise InputError(f"transfer: {use} returned a {type(made).__name__}, expected a torch "
                             "module or a model")  # fmt: skip
        return made


def _checked(table: Mapping[str, object]) -> Mapping[str, object]:
    """The table with the digest of its weights, so that other weights are another attack."""
    if not isinstance(table.get("use"), str):
        raise InputError(f"transfer: surrogate: expected use = NAME, got {dict(table)!r}")
    if "weights" not in table:
        return dict(table)
    path = located(str(table["weights"]), Path())
    if not path.is_file():
        raise InputError(f"transfer: surrogate: found no weights at {path.absolute()}; a path that "
                         "is not absolute starts from the working directory")  # fmt: skip
    return {**table, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _fill(network: object, path: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not isinstance(network, nn.Module):
        raise InputError(f"transfer: weights fit a network, got a {type(network).__name__}")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"transfer: surrogate: {path} does not fit the network: {reason}"
        ) from error
