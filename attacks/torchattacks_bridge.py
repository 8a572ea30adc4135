"""Attacks of the torchattacks package, behind the contract of this one."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks.torchattacks_limits import check_name, check_request, check_settings
from robustbench_med.cases import Batch
from robustbench_med.errors import UnsupportedError
from robustbench_med.model import Context, Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

_VERSION = "3.5.1"
# Without random numbers and without a decision over the batch: measured equal to 1e-6.
_BATCHED = frozenset({"FGSM", "BIM", "MIFGSM", "NIFGSM", "SINIFGSM", "PGD", "PGDL2", "EOTPGD"})
_RANDOM_START = frozenset({"PGD", "PGDL2", "EOTPGD"})


@dataclass(frozen=True)
class Torchattacks:
    """Run one attack class of torchattacks 3.5.1 on a 2-D classifier with bounds [0, 1].

    Its classes draw from the global random state and some decide over the whole batch, so
    each case is run alone from its own seed, but for the deterministic ones; the global state
    is put back. A step size `alpha` that is not set keeps its proportion to eps in the class's
    own defaults. CW, DeepFool, EADEN and EADL1 look for the nearest failure and ignore eps:
    what they find is projected into the ball. CW cannot move a voxel that is exactly 0 or 1.

    Attributes:
        attack: Name of the class, such as "PGD", "APGD", "FAB" or "Square".
        settings: Its arguments, without those that come from the ball or the run; lengths in
            intensity units.

    Source: Kim, 2020, arXiv:2010.01950. Deviation: logits reach the attack shifted so that the
    lowest is 1. CW takes a masked product for a masked maximum, which fails for negative logits:
    unshifted it broke 0 of 8 cases that it breaks shifted. No other loss depends on the shift.
    """

    attack: str = "PGD"
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.attack)
        parameters = inspect.signature(_attack_class(self.attack)).parameters
        check_settings(self.attack, self.settings, parameters)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            UnsupportedError: For any task, image or ball that the attack would get wrong, and
                for a model without gradients if the attack needs them.
        """
        check_request(self.attack, self.settings, model, batch.image, ball)
        if ball.eps == 0:
            return batch.image
        seeds = (rng.uniform() * 2**24).long().tolist()
        with torch.random.fork_rng(range(_devices_in_use())):
            if self._batched:
                return self._run(model, batch, ball, 0)
            alone = [self._run(model, batch[i], ball, seed) for i, seed in enumerate(seeds)]
        return torch.cat(alone)

    @property
    def _batched(self) -> bool:
        random = self.attack in _RANDOM_START and self.settings.get("random_start", True)
        return self.attack in _BATCHED and not random

    def _run(self, model: Model, batch: Batch, ball: Ball, seed: int) -> Tensor:
        torch.manual_seed(seed)
        build = _attack_class(self.attack)
        given = {
            "eps": ball.eps,
            "max_epsilon": ball.eps,
            "norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}[ball.norm],
            "n_classes": len(model.task.classes),
            "seed": seed,
        }
        parameters = inspect.signature(build).parameters
        arguments = {name: value for name, value in given.items() if name in parameters}
        if "alpha" in parameters:
            default = parameters["alpha"].default / parameters["eps"].default
            arguments["alpha"] = ball.eps * default
        attack = build(_Logits(model, batch), **{**arguments, **self.settings})
        with torch.enable_grad():
            found: Tensor = attack(batch.image, batch.target)
        return found.detach()


def _devices_in_use() -> int:
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.device_count() if started else 0


def _attack_class(name: str) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchattacks
        except ModuleNotFoundError as error:
            raise UnsupportedError(
                f"torchattacks: not installed; pip install --no-deps torchattacks=={_VERSION}"
            ) from error
    if torchattacks.__version__ != _VERSION:
        raise UnsupportedError(
            f"torchattacks: needs version {_VERSION}, whose limits are known, "
            f"got {torchattacks.__version__}"
        )
    found: Callable[..., Any] = getattr(torchattacks, name)
    return found


class _Logits(nn.Module):
    """The model as a module, with a training mode of its own and gradients in images only."""

    def __init__(self, model: Model, batch: Batch) -> None:
        super().__init__()
        self.model = model
        self.context = batch.context
        # torchattacks reads the device off the first parameter.
        self.place = nn.Parameter(batch.image.new_empty(0), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        context = {name: _repeated(value, len(image)) for name, value in self.context.items()}
        if torch.is_grad_enabled() and image.requires_grad:
            logits: Tensor = _InImage.apply(image, self.model, context)  # type: ignore[no-untyped-call]
        else:
            logits = self.model(image, context)
        return logits - logits.detach().amin(dim=1, keepdim=True) + 1


def _repeated(value: Tensor, size: int) -> Tensor:
    return value if len(value) == size else value.expand(size, *value.shape[1:])


class _InImage(torch.autograd.Function):
    """Cuts the graph at the image, so that `backward()` fills no parameter's gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, model: Model, context: Context) -> Tensor:  # noqa: ANN401
        with torch.enable_grad():
            leaf = image.detach().requires_grad_()
            output = model(leaf, context)
        if not output.requires_grad:
            raise UnsupportedError(
                f"torchattacks: {type(model).__name__} gives no gradients; use Square, or shifts"
            )
        ctx.leaf, ctx.output = leaf, output
        return output.detach()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (gradient,) = torch.autograd.grad(ctx.output, ctx.leaf, upstream, retain_graph=True)
        return gradient, None, None
