"""What a certificate says in words of its case, its ball and its network."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from robustbench_med.cases import Batch
from robustbench_med.certify.lowering import Lowered
from robustbench_med.model import Model
from robustbench_med.proofs.network import Floats
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Asked:
    """What a certifier is asked.

    Attributes:
        model: About which.
        ball: Over which.
        method: How, a rung of the ladder.
    """

    model: Model
    ball: Ball
    method: str


def about_case(asked: Asked, case_id: str, radius: float) -> dict[str, Any]:
    """Describe the question; `radius` is the ball's around this case, in intensity units."""
    ball = asked.ball
    return {
        "case_id": case_id,
        "model": getattr(asked.model, "digest", None),
        "method": asked.method,
        "ball": {
            "text": str(ball),
            "norm": ball.norm,
            "radius": radius,
            "bounds": [str(end) for end in ball.bounds],
        },
        "support": ball.support,
    }


def about_network(lowered: Lowered) -> dict[str, Any]:
    """Describe the network as it is written out, and how nearly it is the one in torch."""
    return {
        "network": lowered.network.digest,
        "written_out": {
            "tolerance": lowered.tolerance, "points": lowered.points, "left_out": lowered.head,
        },
    }  # fmt: skip


def may_change(ball: Ball, one: Batch) -> Floats:
    """What of one case's image may change in a ball, 1, and what may not, 0, `(c, *s)`."""
    if ball.support is None:
        return np.ones(one.image.shape[1:])
    support = one.context[ball.support].numpy(force=True) != 0
    return np.array(np.broadcast_to(support, one.image.shape)[0], np.float64)
