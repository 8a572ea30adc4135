"""Simulated hearts anywhere and at any turn, for cmr_moved.toml: each batch is moved, then cut."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Moved:
    """Turn and shift each slice and its labels by uniform draws, and keep the middle.

    Attributes:
        size: Rows and columns that are kept.
        pixels: Largest shift along each axis.
        degrees: Largest turn.
    """

    size: int = 96
    pixels: float = 24
    degrees: float = 60

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Batch:  # noqa: ARG002 (a defence is given it)
        """Return images `(b, c, size, size)` and labels `(b, size, size)`."""
        turn, *shift = (2 * rng.uniform(3) - 1).to(batch.image).unbind(1)
        angle = turn * math.radians(self.degrees)
        # Grid coordinates run from -1 to 1 over an image, so shares of half of its edge.
        half = batch.image.shape[-1] / 2
        kept, moves = self.size / 2 / half, torch.stack(shift, 1) * self.pixels / half
        turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
        theta = torch.cat([turned.view(-1, 2, 2) * kept, moves[:, :, None]], 2)
        grid = F.affine_grid(theta, [len(batch), 1, self.size, self.size], align_corners=False)
        image = F.grid_sample(
            batch.image, grid, "bilinear", padding_mode="reflection", align_corners=False
        )
        labels = batch.target[:, None].to(image)
        target = F.grid_sample(
            labels, grid, "nearest", padding_mode="reflection", align_corners=False
        )
        return Batch(batch.case_ids, image, target[:, 0].long(), batch.context)
