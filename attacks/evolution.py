"""CMA-ES over a shift's parameters, by the package cma."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_med.attacks.parameters import Found, Question
from robustbench_med.streams import CaseRng

WIDTH = 0.25
BEYOND = 1e30


def evolve(question: Question, found: Found, count: int, rng: CaseRng) -> tuple[Found, int]:
    """Let each case's points evolve by themselves, from its worst, for up to `count` evaluations.

    Draws from `rng` only: the package is given its random numbers, and leaves numpy's alone.

    Returns:
        What was found, and the evaluations used: whole generations.

    Source: Hansen and Ostermeier, Evol. Comput. 9 (2001).
    """
    import cma

    seeds = (rng.uniform().double() * 2**24).long().tolist()
    # cma 4.5.0 fails on a single axis when it limits the width, so it is told not to.
    options = {"bounds": [0, 1], "seed": np.nan, "verbose": -9, "maxstd_boundrange": np.inf}
    crowds = [
        cma.CMAEvolutionStrategy(start, WIDTH, {**options, "randn": _normal(seed)})
        for start, seed in zip(found.point.double().tolist(), seeds, strict=True)
    ]
    size = crowds[0].popsize
    generations = count // size
    for _ in range(generations):
        asked = [crowd.ask() for crowd in crowds]
        points = torch.from_numpy(np.array(asked)).float().clamp(0, 1)  # (b, size, d)
        answers = []
        for point in points.unbind(dim=1):
            badness = question.badness(point)
            found = found.or_worse(point, badness)
            answers.append(badness.double().nan_to_num(nan=-BEYOND).clamp(-BEYOND, BEYOND))
        for crowd, own, badness in zip(crowds, asked, torch.stack(answers, dim=1), strict=True):
            crowd.tell(own, (-badness).tolist())
    return found, generations * size


def _normal(seed: int) -> Callable[..., NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    return lambda *shape: generator.standard_normal(shape)
