"""Images of a disc and a ring, drawn from a seed."""

import numpy as np
import torch
from torch import Tensor

DISC, RING = 1, 2
_SHADES = (0.15, 0.85, 0.5)


def discs_and_rings(count: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, s, s)` between 0 and 1, with noise, and classes `(n, s, s)` of three."""
    stream = np.random.default_rng(seed)
    line, column = np.mgrid[:size, :size]
    images, masks = [], []
    for _ in range(count):
        mask = np.zeros((size, size), np.int64)
        for label in (RING, DISC):
            middle = stream.uniform(0.25 * size, 0.75 * size, 2)
            radius = stream.uniform(0.12, 0.22) * size
            away = np.hypot(line - middle[0], column - middle[1])
            inner = 0.55 * radius if label == RING else -1.0
            mask[(away <= radius) & (away >= inner)] = label
        image = np.take(_SHADES, mask) + stream.normal(0, 0.03, mask.shape)
        images.append(image.clip(0, 1))
        masks.append(mask)
    return torch.from_numpy(np.stack(images)).float()[:, None], torch.from_numpy(np.stack(masks))
