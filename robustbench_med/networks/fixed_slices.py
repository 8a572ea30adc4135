"""ESPCN for one number of slices, readable by bound propagation."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.neighbours import edges_repeated, with_neighbours

if TYPE_CHECKING:
    from robustbench_med.networks.subpixel import Espcn


class FixedSlices(nn.Module):
    """An ESPCN of stacks of one thickness, its layers written out once for each slice.

    The weights are copies: what the network learns afterwards does not reach them.
    """

    def __init__(self, network: "Espcn", slices: int) -> None:
        """Write out the layers.

        Args:
            network: Any ESPCN.
            slices: Of each stack that it will be given.

        Raises:
            InputError: If there is no slice.
        """
        super().__init__()
        if slices < 1:
            raise InputError(f"fixed slices: expected at least 1, got {slices}")
        self.slices, self.shuffled = slices, network.shuffled
        self.first, self.second, self.third = (
            _repeated(layer.weight, layer.bias, slices, padding=layer.kernel_size[0] // 2)
            for layer in (network.first, network.second, network.third)
        )
        self.interpolated = _repeated(network.stencil, None, slices * network.in_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, slices, y, x)` to `(b, c, fz slices, fy y, fx x)`.

        Raises:
            InputError: If the stacks have another number of slices.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and (image.ndim != 5 or image.shape[2] != self.slices):
            raise InputError(
                f"espcn: fixed for stacks of {self.slices} slices, got {tuple(image.shape)}"
            )
        near = with_neighbours(image)
        maps = F.relu(self.second(F.relu(self.first(near))))
        return self.shuffled(
            self.third(maps) + self.interpolated(edges_repeated(near)), self.slices
        )


def _repeated(weight: Tensor, bias: Tensor | None, times: int, padding: int = 0) -> nn.Conv2d:
    """A convolution of so many groups, all alike."""
    layer = nn.Conv2d(
        weight.shape[1] * times, weight.shape[0] * times, (weight.shape[2], weight.shape[3]),
        padding=padding, groups=times, bias=bias is not None, device=weight.device,
        dtype=weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(weight.repeat(times, 1, 1, 1))
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias.repeat(times))
    return layer
