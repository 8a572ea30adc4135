"""Which images a network can take, told in one line where they are others."""

import math

import torch
from torch import Tensor

from robustbench_med.errors import InputError


def check_images(network: str, image: Tensor, in_channels: int, multiple: int) -> None:
    """Refuse what is no batch of images `(b, in_channels, h, w)` on a grid of `multiple`.

    While a network is traced nothing is checked: a tracer records shapes as tensors, on which a
    comparison would warn.

    Raises:
        InputError: If axes, channels, height or width are others.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    if image.ndim != 4 or image.shape[1] != in_channels:
        raise InputError(
            f"{network}: expected images (b, {in_channels}, h, w), got {tuple(image.shape)}; "
            "build it with in_channels of the cohort"
        )
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        above = [math.ceil(side / multiple) * multiple for side in (height, width)]
        raise InputError(
            f"{network}: height and width must be multiples of {multiple}, got {height} x {width}; "
            f"crop the images, or pad them to {above[0]} x {above[1]}"
        )
