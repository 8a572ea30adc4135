"""Gain, bias field and intensity window as the parameters that a written-out network reads."""

from itertools import product

import numpy as np

from robustbench_med.certify.prefix import NO_BOUNDS, Bounds, with_affine
from robustbench_med.errors import InputError
from robustbench_med.proofs.network import Floats, Network


def with_gain(network: Network, image: Floats, bounds: Bounds = NO_BOUNDS) -> Network:
    """Let a network read a gain error: it sees `image * (1 + theta)`, clipped.

    Args:
        network: Of an input `(c, *s)`.
        image: `(c, *s)`.
        bounds: What is legal; a side that is infinite is not clipped.

    Returns:
        The network of theta, `(1,)`, 0 for the image itself.

    Raises:
        InputError: If the image does not fit.
    """
    return with_affine(network, image, image[None], bounds)


def with_bias_field(
    network: Network, image: Floats, fields: Floats, bounds: Bounds = NO_BOUNDS
) -> Network:
    """Let a network read a bias field: it sees `image * (1 + sum_k theta_k fields_k)`, clipped.

    Args:
        network: Of an input `(c, *s)`.
        image: `(c, *s)`.
        fields: `(k, *s)`, smooth, such as `smooth_fields`; the same for all channels.
        bounds: What is legal; a side that is infinite is not clipped.

    Returns:
        The network of the coefficients, `(k,)`.

    Raises:
        InputError: If image or fields do not fit.

    The field is the first-order part of exp(sum_k theta_k fields_k), as which it is often written.
    """
    if fields.shape[1:] != image.shape[1:]:
        raise InputError(
            f"with_bias_field: fields must be (k, *{image.shape[1:]}), got {fields.shape}"
        )
    return with_affine(network, image, image[None] * fields[:, None], bounds)


def with_window(network: Network, image: Floats, bounds: Bounds = (0.0, 1.0)) -> Network:
    """Let a network read errors of the intensity window: gain and offset, then clipped.

    It sees `image * (1 + theta_0) + theta_1`. A window of level l and width w shows a value x of
    0 to 1 as (x - l) / w + 1/2: theta_0 is 1 / w - 1, theta_1 is 1/2 - l / w.

    Args:
        network: Of an input `(c, *s)`.
        image: `(c, *s)`.
        bounds: The darkest and the brightest that a display shows.

    Returns:
        The network of (gain error, offset), `(2,)`.

    Raises:
        InputError: If the image does not fit.
    """
    return with_affine(network, image, np.stack([image, np.ones_like(image)]), bounds)


def field_hull(
    image: Floats, fields: Floats, radius: float, bounds: Bounds
) -> tuple[Floats, Floats]:
    """Enclose all images that coefficients of at most `radius` give, pixel by pixel; exact there.

    Args:
        image: `(c, *s)`.
        fields: `(k, *s)`.
        radius: Largest absolute value of any coefficient.
        bounds: What is legal.

    Returns:
        Lowest and highest value of each pixel, `(c, *s)`, rounded outwards.
    """
    reach = np.abs(image) * (radius * np.abs(fields).sum(axis=0))
    # Products and sums of a few numbers: some units in the last place.
    slack = 1e-14 * (np.abs(image) + reach)
    low, high = image - reach - slack, image + reach + slack
    return np.clip(low, *bounds), np.clip(high, *bounds)


def smooth_fields(space: tuple[int, ...], order: int) -> Floats:
    """Every product of powers of the coordinates, of total power 1 to `order`, `(k, *s)`.

    Coordinates run from -1 to 1 along each axis; one that has a single pixel is 0.

    Source: Van Leemput et al., IEEE TMI 18 (1999), polynomial bias fields.
    """
    axes = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in space]
    grid = np.meshgrid(*axes, indexing="ij")
    powers = (each for each in product(range(order + 1), repeat=len(space)))
    return np.stack(
        [
            np.prod([axis**power for axis, power in zip(grid, each, strict=True)], axis=0)
            for each in powers
            if 1 <= sum(each) <= order
        ]
    )
