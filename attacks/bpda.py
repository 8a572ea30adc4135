"""An attack through a step that has no useful gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_med.attacks.inner import Inner, attack_of
from robustbench_med.cases import Batch
from robustbench_med.components import find, suggest
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

StandIn = str | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Bpda:
    """Let an inner attack climb the gradient of a stand-in for one part of the network.

    Answers stay the model's own; only on the way back the part is taken for its stand-in. For
    quantised, thresholded, denoised or compressed inputs, whose own gradient is 0 or nonsense.

    Attributes:
        module: Path of the part inside `model.network`, such as "0" or "prepare.quantise"; ""
            is the whole network. It must be a module of its own: a step that is written into
            another module's `forward` has no path.
        inner: The attack, by name, as a table, or itself.
        stand_in: What replaces it: a function of its first argument, or `package.module:function`.
            Left out it is the identity, for a part whose answer is shaped as its argument.

    Source: Athalye et al., ICML 2018, section 4.1, arXiv:1802.00420.
    """

    module: str
    inner: Inner = "pgd"
    stand_in: StandIn = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", attack_of(self.inner))
        if not isinstance(self.module, str):
            raise InputError(f"bpda: module must be a path such as '0', got {self.module!r}")
        if isinstance(self.stand_in, str):
            if ":" not in self.stand_in:
                raise InputError(
                    "bpda: stand_in must be a function, as package.module:function, "
                    f"got {self.stand_in!r}"
                )
            object.__setattr__(self, "stand_in", find("networks", self.stand_in))
        if self.stand_in is not None and not callable(self.stand_in):
            raise InputError(f"bpda: stand_in must be a function, got {self.stand_in!r}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`; raises what the inner attack raises, and the following.

        Raises:
            InputError: If the network has no such part.
            UnsupportedError: If the model has no network, or the shapes do not fit the stand-in.
        """
        with _replaced(_part(model, self.module), self.stand_in):  # type: ignore[arg-type]
            return attack_of(self.inner)(model, batch, ball, rng)


def _part(model: Model, path: str) -> nn.Module:
    network = getattr(model, "network", None)
    if not isinstance(network, nn.Module):
        raise UnsupportedError(
            f"bpda: {type(model).__name__} has no torch network to look into; use square"
        )
    parts: dict[str, nn.Module] = dict(network.named_modules())
    if path not in parts:
        known = suggest(path, [name for name in parts if name])
        raise InputError(f"bpda: the network has no module {path!r}; {known}")
    return parts[path]


@contextmanager
def _replaced(part: nn.Module, stand_in: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Give the part its stand-in's gradient for as long as this lasts."""

    def answer(part: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not given or not isinstance(given[0], Tensor):
            raise UnsupportedError(
                f"bpda: {type(part).__name__} is not called with an image as its first argument"
            )
        smooth = given[0] if stand_in is None else stand_in(given[0])
        if smooth.shape != output.shape:
            raise UnsupportedError(
                f"bpda: {type(part).__name__} answers {tuple(output.shape)}, its stand-in "
                f"{tuple(smooth.shape)}; give stand_in a function of the right shape"
            )
        return output.detach() + (smooth - smooth.detach())

    handle = part.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()
