"""What a proof about pixels needs besides, to become one about volumes: counts and sizes."""

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.probes import Values

PROVED = "least.0"
ANSWER, VOXEL = "answer", "voxel_ml"


@torch.no_grad()
def counted(model: Model, batch: Batch, values: Values) -> dict[str, Tensor]:
    """Count the model's own answer, and size a voxel, where a certificate limits counts.

    Args:
        model: That the certificate is about.
        batch: Its cases; `context["spacing"]` `(b, 3)`, in mm, may be there.
        values: Of the certificate.

    Returns:
        Nothing without limits of counts in `values`. Otherwise `answer.K`, voxels of class K in
        the answer to the images as they are, and `voxel_ml`, NaN where the spacing is no length
        or is not known; all `(b,)`, float64.
    """
    if PROVED not in values:
        return {}
    output = model(batch.image, batch.context)
    answer = output.argmax(dim=1).flatten(start_dim=1)
    counts = {f"{ANSWER}.{k}": (answer == k).sum(dim=1).double() for k in range(output.shape[1])}
    return {**counts, VOXEL: _voxel_ml(batch)}


def _voxel_ml(batch: Batch) -> Tensor:
    spacing = batch.context.get("spacing")
    if spacing is None or spacing.shape[1:] != (3,):
        return torch.full((len(batch),), torch.nan, dtype=torch.float64)
    lengths = spacing.double()
    legal = (lengths.isfinite() & (lengths > 0)).all(dim=1)
    return (lengths.prod(dim=1) / 1000).where(legal, torch.nan)
