"""Errors of acquired k-space lines as the parameters that a written-out reconstruction reads."""

from collections.abc import Sequence

import numpy as np

from robustbench_med.certify.prefix import with_affine
from robustbench_med.errors import InputError
from robustbench_med.proofs.network import Floats, Network
from robustbench_med.proofs.proof import InputSet


def with_line_errors(network: Network, kspace: Floats, lines: Sequence[int]) -> Network:
    """Let a reconstruction read one complex gain error for each of some acquired lines.

    Line l is seen as `(1 + theta_re + i theta_im)` times what was acquired: affine in both.

    Args:
        network: Of measured k-space `(2, h, w)`, real and imaginary part, such as a `FixedCascade`
            written out; its lines lie along the last axis.
        kspace: `(2, h, w)`, as acquired.
        lines: Rows, 0 to h - 1, each once.

    Returns:
        The network of `(2 * lines,)`: real and imaginary error of the first line, of the second...

    Raises:
        InputError: If k-space or lines do not fit.
    """
    if kspace.ndim != 3 or len(kspace) != 2:
        raise InputError(f"with_line_errors: k-space must be (2, h, w), got {kspace.shape}")
    height = kspace.shape[1]
    if len(set(lines)) != len(lines) or any(not 0 <= line < height for line in lines):
        raise InputError(
            f"with_line_errors: lines must be different rows 0 to {height - 1}, got {list(lines)}"
        )
    real, imaginary = kspace
    directions = np.zeros((2 * len(lines), *kspace.shape))
    for at, line in enumerate(lines):
        directions[2 * at, :, line] = real[line], imaginary[line]
        directions[2 * at + 1, :, line] = -imaginary[line], real[line]
    return with_affine(network, kspace, directions)


def line_errors(count: int, gain: float, degrees: float) -> InputSet:
    """Enclose gain errors of 1 - gain to 1 + gain with phase errors up to `degrees` in a box.

    (1 + g) exp(i phi) - 1 has a real part of (1 - gain) cos(degrees) - 1 to gain, and an imaginary
    part up to (1 + gain) sin(degrees) either way. **The box is larger than the set of such errors**
    (a piece of a ring): what is proved of it holds for all of them, but a point of it that
    falsifies need not be one.

    Args:
        count: Lines.
        gain: Largest relative error of the size, 0 to 1.
        degrees: Largest error of the phase, 0 to 90.

    Raises:
        InputError: If a number lies outside.
    """
    if not (0 <= gain <= 1 and 0 <= degrees <= 90):
        raise InputError(
            f"line_errors: gain must be 0 to 1 and degrees 0 to 90, got {gain} and {degrees}"
        )
    phase = np.deg2rad(degrees)
    # A few units in the last place further out, for the rounding of sine, cosine and product.
    slack = 4e-16 if degrees else 0.0
    least, most = (1 - gain) * np.cos(phase) - 1 - slack, (1 + gain) * np.sin(phase) + slack
    low, high = np.array([least, -most] * count), np.array([gain, most] * count)
    return InputSet(low, high)
