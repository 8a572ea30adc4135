"""A written-out network as a torch module that auto-LiRPA can read, and that tells every value."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.certify.rebuilt_plain import plain
from robustbench_med.proofs.network import Network, Node

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Rebuilt(nn.Module):
    """Computes what a `proofs.Network` does, by operators whose bounds by auto-LiRPA are trusted.

    Its numbers are parameters of one floating-point type, rounded from the network's.
    """

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32) -> None:
        """Write it anew.

        Args:
            network: What it shall compute.
            dtype: Of its parameters, and of the images that it will be given.
        """
        super().__init__()
        self._nodes, self._places = plain(network)
        for position, node in enumerate(self._nodes):
            for name, array in node.arrays.items():
                if name != "index":
                    whole = np.broadcast_to(array, node.shape) if node.kind == "scale" else array
                    tensor = torch.tensor(np.array(whole), dtype=dtype)
                    # Parameters, as auto-LiRPA asks the first one for the type of numbers.
                    still = nn.Parameter(tensor, requires_grad=False)
                    self.register_parameter(f"{name}_{position}", still)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, *input)` to `(b, *output)`."""
        return self._computed(image)[-1]

    def values(self, image: Tensor) -> list[Tensor]:
        """The value of every node of the network, `(b, *shape)` each, differentiable."""
        found = self._computed(image)
        return [found[place] for place in self._places]

    def _computed(self, image: Tensor) -> list[Tensor]:
        found = [image]
        for position, node in enumerate(self._nodes[1:], start=1):
            arrays = {
                name: getattr(self, f"{name}_{position}") for name in node.arrays if name != "index"
            }
            found.append(_RULES[node.kind](node, arrays, [found[i] for i in node.inputs]))
        return found


_Arrays = Mapping[str, Tensor]
_Rule = Callable[[Node, _Arrays, Sequence[Tensor]], Tensor]


def _conv(node: Node, arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    settings = node.settings
    return _CONV[len(node.shape) - 2](
        inputs[0], arrays["weight"], arrays["bias"], settings["stride"], settings["padding"],
        settings["dilation"], settings["groups"][0],
    )  # fmt: skip


def _conv_transpose(node: Node, arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    return _CONV_TRANSPOSE[len(node.shape) - 2](
        inputs[0], arrays["weight"], arrays["bias"], node.settings["stride"]
    )


def _scale(node: Node, arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    # Every operator more is one more to bound.
    scaled = inputs[0]
    if (node.arrays["factor"] != 1).any():
        scaled = scaled * arrays["factor"]
    return scaled + arrays["shift"] if node.arrays["shift"].any() else scaled


def _sum(_node: Node, _arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return total


def _slice(node: Node, _arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    axis, index = node.settings["axis"][0] + 1, node.arrays["index"]
    return inputs[0].narrow(axis, int(index[0]), len(index))


def _concat(node: Node, _arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(inputs), dim=node.settings["axis"][0] + 1)


def _permute(node: Node, _arrays: _Arrays, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].permute(0, *(axis + 1 for axis in node.settings["axes"]))


_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "conv": _conv,
        "conv_transpose": _conv_transpose,
        "dense": lambda _, arrays, x: F.linear(x[0], arrays["weight"], arrays["bias"]),
        "scale": _scale,
        "sum": _sum,
        "concat": _concat,
        "reshape": lambda node, _, x: x[0].reshape(-1, *node.shape),
        "permute": _permute,
        "take": _slice,
        "relu": lambda _, __, x: x[0].relu(),
    }
)
