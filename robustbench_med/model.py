"""What is tested: a differentiable map from images to outputs."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from robustbench_med.cases import Bounds, Task
from robustbench_med.errors import InputError

Context = Mapping[str, Tensor]


@runtime_checkable
class Model(Protocol):
    """A model under test.

    Attributes:
        task: What it answers.
        bounds: The intensities it expects; normalisation lives inside it.
    """

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def bounds(self) -> Bounds: ...  # noqa: D102

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Map images `(b, c, *s)` to outputs: `(b, k)`, `(b, k, *s)` or images."""
        ...


@dataclass(frozen=True)
class TorchModel:
    """A torch module as a model; the module is put into evaluation mode.

    Attributes:
        network: Takes `(b, c, *s)`, and `context` if its `forward` names that.
        task: What it answers.
        bounds: The intensities it expects.
    """

    network: nn.Module
    task: Task
    bounds: Bounds

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module):
            raise InputError(f"model: expected a torch module, got {type(self.network).__name__}")
        low, high = self.bounds
        object.__setattr__(self, "bounds", (float(low), float(high)))
        self.network.eval()

    @cached_property
    def _takes_context(self) -> bool:
        return "context" in inspect.signature(self.network.forward).parameters

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`."""
        if self._takes_context:
            output: Tensor = self.network(image, context=context or {})
        else:
            output = self.network(image)
        return output

    @property
    def digest(self) -> str:
        """Hash of structure, weights and buffers, task and bounds."""
        digest = hashlib.sha256(f"{self.network!r}{self.task}{self.bounds}".encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().view(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
        return digest.hexdigest()
