"""A network of zero-filled images for one set of lines, readable by bound propagation."""

from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.fixed_cascade import (
    apply_columnwise,
    columnwise,
    inverse_transform,
)


class FixedLines(nn.Module):
    """A network of zero-filled images, given k-space of one coil and fixed lines.

    The Fourier transform is written as two affine maps, along the rows and along the columns. It
    shares the network's weights.
    """

    readout: Tensor
    phase_encode: Tensor

    def __init__(self, network: nn.Module, mask: Tensor) -> None:
        """Write out the transform.

        Args:
            network: Maps zero-filled complex images `(b, 2, h, w)` to anything.
            mask: `(1, h, w)`, 1 where measured.

        Raises:
            InputError: If the mask has another shape, or rows that are measured in part.
        """
        super().__init__()
        if mask.ndim != 3 or len(mask) != 1 or not (mask == mask[..., :1]).all():
            raise InputError(
                "fixed lines: expected a mask (1, h, w) that is constant along each row, "
                f"got {tuple(mask.shape)}"
            )
        like = next(network.parameters())
        lines = mask[0, :, 0].double().cpu()
        back = inverse_transform(mask.shape[1]) * lines
        self.network = network
        self.register_buffer("readout", columnwise(inverse_transform(mask.shape[2])).to(like))
        self.register_buffer("phase_encode", columnwise(back).to(like))

    def forward(self, image: Tensor) -> Tensor:
        """Map measured k-space `(b, 2, h, w)` to what the network answers."""
        rows = apply_columnwise(self.readout, image.transpose(2, 3)).transpose(2, 3)
        seen: Tensor = self.network(apply_columnwise(self.phase_encode, rows))
        return seen
