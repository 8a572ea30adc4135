"""Try to catch a certificate lying: no sampled image may step outside its bounds."""

import torch
from torch import Tensor, nn

from robustbench_med.certify.margin import Rows
from robustbench_med.errors import IntegrityError

POINTS = 8


@torch.no_grad()
def sampled(network: nn.Module, points: Tensor) -> Tensor:
    """Run a network on images `(n, c, *s)`, one by one; returns flat outputs `(n, m)`."""
    return torch.cat([network(point[None]).flatten(start_dim=1) for point in points])


def audit(outputs: Tensor, rows: Rows, lower: Tensor, slack: float) -> None:
    """Check that sampled images respect lower limits.

    It cannot show that limits hold, only that they do not: auto-LiRPA returns wrong bounds
    for some networks, and a few samples tell most of them.

    Args:
        outputs: `(n, m)`, of images inside the region that the limits are for.
        rows: What was bounded, `r` rows.
        lower: `(r,)`, its lower limits; minus infinity where there is none.
        slack: What floating point may cost, relative to 1 + the largest value met.

    Raises:
        IntegrityError: If a sample lies below its limit by more than the slack.
    """
    values = rows.of(outputs)
    lowest = values.amin(dim=0)
    allowed = slack * (1 + max(float(outputs.abs().max()), float(values.abs().max())))
    worst = int((lower - lowest).argmax())
    if not lower[worst] <= lowest[worst] + allowed:
        raise IntegrityError(
            f"certify: certificate void: row {worst} is bounded below by {lower[worst]:.9g}, "
            f"but an image of the set reaches {lowest[worst]:.9g}; allowed slack {allowed:.3g}"
        )
