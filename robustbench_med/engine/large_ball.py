"""A ball so large that every case must break in it, with an image in it that does."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.engine.validity_sample import Trials, decides
from robustbench_med.threat import Ball

DOUBLINGS = 16
# Without a decision, nothing says when a case is broken: a loss in eight times the radius.
DENSE_DOUBLINGS = 3


def large_ball(trials: Trials, ball: Ball) -> tuple[Ball, Tensor, Tensor] | None:
    """Double the radius until each case's ball holds an image that the model answers wrongly.

    The images are other cases of the sample, brought into the ball.

    Returns:
        The ball, the harm of those images, `(n,)`, and for which cases they do any, `(n,)`; None
        if fewer than nine in ten do, however large the ball.
    """
    steps = range(1, DOUBLINGS + 1) if decides(trials.model.task) else [DENSE_DOUBLINGS]
    for step in steps:
        larger = replace(ball, eps=ball.eps * 2**step)
        harm = _witnessed(trials, larger)
        sure = harm > trials.sample.clean
        if sure.double().mean() >= 0.9:
            return larger, harm, sure
    return None


def _witnessed(trials: Trials, ball: Ball) -> Tensor:
    """Most harm that any of a few other cases does from within the ball, `(n,)`."""
    harm = trials.sample.clean
    for others in _others(trials.sample.batches):
        images = [
            ball.project(other, batch.image, batch.context)
            for other, batch in zip(others, trials.sample.batches, strict=True)
        ]
        harm = harm.maximum(trials.harm(images))
    return harm


def _others(batches: tuple[Batch, ...], most: int = 8) -> Iterator[list[Tensor]]:
    """Each case's images replaced by another case's of its batch, in up to `most` ways."""
    for shift in range(1, 1 + min(most, max(map(len, batches)) - 1)):
        yield [torch.roll(batch.image, shift, dims=0) for batch in batches]
