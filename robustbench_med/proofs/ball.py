"""Whether a proof's set holds the ball that its certificate names, and an image of the set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.proof import InputSet

SLACK = 1e-6  # images are float32, and so are corners; relative to the image and the radius


def covers(inputs: InputSet, image: Floats, free: Floats, about: Mapping[str, Any]) -> None:
    """Hold a set against a ball.

    Args:
        inputs: The set.
        image: The ball's centre.
        free: Of the image's shape, 1 for what may change and, with a support, 0 for what may not.
        about: Its `ball` has `norm`, `radius`, and `bounds`, between which all images lie;
            `support`, if there is one, names what says what may change.

    Raises:
        IntegrityError: If there may be images of the ball outside the set.
    """
    if image.shape != inputs.low.shape or free.shape != image.shape:
        raise IntegrityError(
            f"certificate: an image {image.shape}, flags {free.shape} of what may change, and a "
            f"set {inputs.low.shape}"
        )
    if not ((free == 1) | ((free == 0) & (about.get("support") is not None))).all():
        raise IntegrityError(
            "certificate: what may change must be told by 1 and, with a support, 0"
        )
    norm, radius, low, high = _named(about)
    if not np.isfinite(image).all():
        raise IntegrityError("certificate: its image is not finite")
    least = np.clip(image - radius * free, low, high)
    most = np.clip(image + radius * free, low, high)
    slack = SLACK * (np.abs(image) + radius)
    if not ((inputs.low <= least + slack) & (inputs.high >= most - slack)).all():
        raise IntegrityError(
            f"certificate: its set is smaller than the ball of radius {radius} around its image"
        )
    if inputs.centre is None:
        return
    if norm in ("l1", "l2"):
        reach = radius + float(np.linalg.norm(image - inputs.centre))
    else:
        corners = np.maximum(most - inputs.centre, inputs.centre - least)
        reach = float(np.linalg.norm(corners))
    if not inputs.radius >= reach * (1 - SLACK):
        raise IntegrityError(
            f"certificate: its set has the l2 radius {inputs.radius}, less than the ball's {reach}"
        )


def _named(about: Mapping[str, Any]) -> tuple[str, float, float, float]:
    """Norm, radius and bounds of the ball that a certificate names."""
    try:
        ball = about["ball"]
        norm, radius = str(ball["norm"]), float(ball["radius"])
        low, high = (float(end) for end in ball["bounds"])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"certificate: names no ball: {error!r}") from error
    if not (0 <= radius < np.inf and low < high):
        raise IntegrityError(f"certificate: a ball of radius {radius}, bounds {low} to {high}")
    return norm, radius, low, high


def inside(inputs: InputSet, image: Floats) -> None:
    """Hold an image that is said to falsify a case against its set.

    Raises:
        IntegrityError: If it lies outside.
    """
    if image.shape != inputs.low.shape:
        raise IntegrityError(f"certificate: a falsifier {image.shape}, a set {inputs.low.shape}")
    offset = 0.0 if inputs.centre is None else float(np.linalg.norm(image - inputs.centre))
    slack = SLACK * (np.abs(image) + inputs.high - inputs.low)
    within = (image >= inputs.low - slack) & (image <= inputs.high + slack)
    if not within.all() or not offset <= inputs.radius * (1 + SLACK):
        raise IntegrityError("certificate: its falsifier lies outside its set")
