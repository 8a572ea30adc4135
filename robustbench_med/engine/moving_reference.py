"""A reconstruction attacked through the object itself, compared with the object as it then is."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch, Bounds, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Context, Model
from robustbench_med.physics.coils import forward
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.probes import Attack, Metrics, Probe, Values, score
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TRUTH, NOISE = "moving_truth", "moving_noise"


def moving(name: str, attack: Attack, ball: Ball, metrics: Metrics) -> Probe:
    """Let `attack` change the object and score the answer against the changed object.

    Of the two questions of Antun et al. this is the one where the reference moves: x + r is
    measured, with the case's own noise, and what the network makes of it is held against x + r. The
    other one, where the reference stays, is `probes.attacked` on the measured k-space. Their
    numbers say different things, and so the probes have different names.

    During the search the model answers f(A(x + r) + n) - r, against x: the task's squared error,
    `region` of real images and any other objective of the difference are then exact;
    objectives of magnitudes are not.

    Args:
        name: Of the attack, for the probe's name.
        attack: What searches, in the space of images.
        ball: Around the true image `(b, 2, h, w)`, in its unit or a fraction of its norm.
        metrics: Score the answer against x + r.

    Source: Antun et al., PNAS 117 (2020) 30088, recalled: stability is asked for at x + r.
    """
    probe = _Moving(attack, ball, dict(metrics))
    return Probe(f"moving {name}[{ball}]", "attack", ball.eps, probe)


@dataclass(frozen=True)
class _Moving:
    attack: Attack
    ball: Ball
    metrics: Metrics

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        truth, context = batch.target, batch.context
        if model.task.kind != "reconstruction":
            raise UnsupportedError(f"moving: needs a reconstruction, got {model.task.kind}")
        if truth.ndim != 4 or truth.shape[1] != 2 or "mask" not in context:
            raise InputError(
                "moving: needs k-space of single images with complex targets (b, 2, h, w) and "
                f"`mask` in the context, got targets {tuple(truth.shape)}"
            )
        noise = batch.image - measured(truth, context)
        held = {**context, TRUTH: truth, NOISE: noise}
        objects = Batch(batch.case_ids, truth, truth, held)
        found = self.attack(Imaged(model), objects, self.ball, rng).detach()
        found = self.ball.stored(found, truth, context)
        kspace = measured(found, context) + noise
        return score(model, Batch(batch.case_ids, kspace, found, context), self.metrics)


@dataclass(frozen=True)
class Imaged:
    """A reconstruction as a function of the object: f(A(x + r) + n) - r of x + r.

    Attributes:
        model: f, of k-space.
    """

    model: Model

    @property
    def task(self) -> Task:
        """The reconstruction's."""
        return self.model.task

    @property
    def bounds(self) -> Bounds:
        """None: an object may have any intensity."""
        return (-torch.inf, torch.inf)

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`; the context holds the unchanged object and the noise."""
        entries = context or {}
        answer = self.model(measured(image, entries) + entries[NOISE], entries)
        return answer - (image - entries[TRUTH])


def measured(image: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """k-space of complex images `(b, 2, h, w)` without noise, as real channels."""
    maps = to_complex(context["maps"]) if "maps" in context else None
    return to_channels(forward(to_complex(image)[:, 0], maps, context["mask"]))
