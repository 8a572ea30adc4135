"""A deep cascade for one set of lines, with operators that bound propagation can read."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FixedCascade(nn.Module):
    """A `DeepCascade` for one coil and fixed lines; without Fourier transform, shares its weights.

    For whole rows, data consistency mixes only the voxels of a column: it is one affine map of
    its `2 h` real numbers, written as a 1 x 1 convolution over `(b, 2 h, 1, w)`. Chains of
    cosine and sine products would ruin interval bounds.
    """

    readout: Tensor
    phase_encode: Tensor
    unmeasured: Tensor

    def __init__(self, blocks: nn.ModuleList, mask: Tensor, weight: float) -> None:
        super().__init__()
        height, width = mask.shape
        like = next(blocks.parameters())
        lines = mask[:, 0].double().to(like.device)
        back = inverse_transform(height).to(like.device)
        shown = back * lines @ back.mH
        self.blocks = blocks
        kept = torch.eye(height).to(shown) - weight * shown
        self.register_buffer("readout", columnwise(inverse_transform(width)).to(like))
        self.register_buffer("phase_encode", columnwise(back * lines).to(like))
        self.register_buffer("unmeasured", columnwise(kept).to(like))
        self.weight = weight

    def forward(self, image: Tensor) -> Tensor:
        """Map measured k-space `(b, 2, h, w)` to complex images `(b, 2, h, w)`."""
        rows = apply_columnwise(self.readout, image.transpose(2, 3)).transpose(2, 3)
        measured_part = apply_columnwise(self.phase_encode, rows)
        seen = measured_part
        for block in self.blocks:
            seen = (
                apply_columnwise(self.unmeasured, seen + block(seen)) + self.weight * measured_part
            )
        return seen


def inverse_transform(length: int) -> Tensor:
    """Matrix of the centred inverse Fourier transform along one axis."""
    shifted = torch.fft.ifftshift(torch.eye(length, dtype=torch.float64), dim=0)
    columns: Tensor = torch.fft.fftshift(torch.fft.ifft(shifted, dim=0, norm="ortho"), dim=0)
    return columns


def columnwise(matrix: Tensor) -> Tensor:
    """Write a complex matrix `(n, n)` as the weights of a convolution over `(b, 2 n, 1, w)`.

    The first `n` channels are the real parts.
    """
    real, imaginary = matrix.real, matrix.imag
    whole = torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
    return whole[:, :, None, None]


def apply_columnwise(weights: Tensor, seen: Tensor) -> Tensor:
    """Apply what `columnwise` wrote to each column of complex images `(b, 2, n, w)`."""
    length, other = seen.shape[2:]
    column = seen.reshape(-1, 2 * length, 1, other)
    return F.conv2d(column, weights).reshape(-1, 2, length, other)
