"""Compressed sensing: the image of fewest wavelet details that explains the measurement."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.measured import by_frame, measured
from robustbench_med.networks.total_variation import brightness
from robustbench_med.networks.wavelets import SHORTEST, analyse, levels_of, synthesise
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels

TASK = "reconstruction"
BOUNDED_BY = ""
STRIDE = (5, 3)  # pixels from shift to shift: a path through all classes modulo 16
TINY = 1e-30  # keeps a root's derivative finite where both number and threshold are 0


def wavelet_l1(*, lam: float = 0.02, iterations: int = 60, shifts: int = 4) -> "WaveletL1":
    """Build the minimiser of `|A x - y|^2 / 2 + lam |D x|_1`; it has nothing to train.

    `D x` are the details of a periodic orthonormal wavelet transform, Daubechies' of 4 moments
    and 8 taps, over up to 4 levels; magnitudes of complex coefficients are summed. The
    approximations at the coarsest level, which hold the brightness, cost nothing. `x` and `y`
    are in units of the 99th percentile of the zero-filled image's magnitudes, as in
    `total_variation`.

    With `shifts = 1` that is the problem solved. It depends on where the wavelets' grid lies,
    and so do its artefacts. With more, the second term is the proximal average of the same term
    on that many shifted grids: each step takes the mean of the images that they give.

    Args:
        lam: Weight of the details, above 0.
        iterations: Of the solver, always all of them, at least 1.
        shifts: Grids of wavelets, at least 1.

    Raises:
        InputError: If a setting is out of range.

    Source: Lustig et al., MRM 58 (2007), for the problem; Beck and Teboulle, SIAM J. Imaging
    Sciences 2 (2009), section 4, for the solver (FISTA, step 1); Coifman and Donoho, Lecture
    Notes in Statistics 103 (1995), for shifts; Bauschke et al., SIAM J. Optimization 19 (2008),
    for the proximal average.
    """
    if not (math.isfinite(lam) and lam > 0):
        raise InputError(
            f"wavelet_l1: lam must be finite and above 0, got {lam}; for 0 use zero_filled"
        )
    for name, count in {"iterations": iterations, "shifts": shifts}.items():
        if type(count) is not int or count < 1:
            raise InputError(
                f"wavelet_l1: {name} must be a whole number, at least 1, got {count!r}"
            )
    return WaveletL1(lam, iterations, shifts)


class WaveletL1(nn.Module):
    """See `wavelet_l1`, which builds it. Differentiable, through every iteration.

    A step of 1 needs squared sensitivities that sum to at most 1, as those of `maps` do.
    """

    def __init__(self, lam: float, iterations: int, shifts: int) -> None:
        super().__init__()
        self.lam, self.iterations = lam, iterations
        self.shifts = [tuple(step * number for step in STRIDE) for number in range(shifts)]

    def extra_repr(self) -> str:
        """Tell what decides the answers; the model's digest reads it."""
        return f"lam={self.lam}, iterations={self.iterations}, shifts={len(self.shifts)}"

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, h, w)` to complex images `(b, 2, h, w)`.

        A series `(b, 2 c, t, h, w)` is reconstructed frame by frame.

        Raises:
            InputError: If the context has no mask, or no maps for several coils, or if a side of
                the image is odd or shorter than the wavelet.
        """
        if image.ndim == 5:
            return by_frame("wavelet_l1", self, image, context)
        _, maps, mask = setting = measured("wavelet_l1", image, context)
        levels = levels_of(*image.shape[-2:])
        if levels == 0:
            raise InputError(
                f"wavelet_l1: height and width must be even and at least {SHORTEST}, got "
                f"{image.shape[-2]} x {image.shape[-1]}; crop the images, or use total_variation"
            )
        zero_filled = adjoint(*setting)
        scale = brightness(zero_filled)
        seen = self._solve(zero_filled / scale, maps, mask, levels)
        return to_channels((scale * seen)[:, None])

    def _solve(self, start: Tensor, maps: Tensor | None, mask: Tensor, levels: int) -> Tensor:
        """Minimise for a zero-filled image `start` of brightness 1, `(b, h, w)`."""
        seen = ahead = start
        momentum = 1.0
        for _ in range(self.iterations):
            downhill = ahead + start - adjoint(forward(ahead, maps, mask), maps, mask)
            before, seen = seen, self._sparser(downhill, levels)
            momentum_before, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = seen + (momentum_before - 1) / momentum * (seen - before)
        return seen

    def _sparser(self, image: Tensor, levels: int) -> Tensor:
        """Shorten the details of `(b, h, w)` by `lam` on every grid, and take the mean."""
        threshold = torch.full_like(image[0].real, self.lam)
        height, width = (length >> levels for length in threshold.shape)
        threshold[:height, :width] = 0
        moved = torch.stack([image.roll(shift, (-2, -1)) for shift in self.shifts])
        sparse = synthesise(_shrink(analyse(moved, levels), threshold), levels)
        back = [
            image.roll((-shift[0], -shift[1]), (-2, -1))
            for image, shift in zip(sparse, self.shifts, strict=True)
        ]
        return torch.stack(back).mean(dim=0)


def _shrink(coefficients: Tensor, threshold: Tensor) -> Tensor:
    """Shorten every complex number by its threshold, `(h, w)`, down to 0."""
    squared = coefficients.real.square() + coefficients.imag.square()
    # Clamped before the root, so that the derivative is 0, not NaN, where a number is.
    length = torch.maximum(squared, threshold.square()).clamp(min=TINY).sqrt()
    return coefficients * (1 - threshold / length)
