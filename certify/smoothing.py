"""What holds of a model under Gaussian noise, with a stated probability: no proof."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.certify.binomial import bonferroni, holm, lower_limit, p_values
from robustbench_med.certify.votes import agreeing, most_common
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel
from robustbench_med.probes import Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Smoothing:
    """Certify the smoothed model: the one that answers as most noisy copies of the image are.

    With probability at least `1 - alpha` **for each case**, over the noise that is drawn here,
    all that is said of that case holds. It is about the smoothed model, never about the model
    itself, and no proof of either. It is said in real arithmetic with exact Gaussian noise; noise
    and network are rounded.

    The noise leaves the model's bounds and is not clamped: the theorem is about Gaussian noise.
    A clamp is part of what answers; who wants one builds it into the network, so that it is
    there at use, too. An image of a ball with a support gets noise everywhere: the ball is a
    part of the full one.

    `certified`, `falsified` and `undecided` are 0 or 1, or shares of a segmentation's pixels:
    the smoothed answer is right all over the ball; it is wrong at the clean image; neither is
    established. `abstained`: the votes name no answer clearly enough. `radius`: of the l2 ball
    around the image on which the true class stands, 0 where it is not the one found or none is;
    of a segmentation, that of every pixel that did not abstain.

    An linf ball is certified as the l2 ball around it, of radius `eps * sqrt(n)`, `n` being the
    voxels that may change.

    Attributes:
        sigma: Standard deviation of the noise, in intensity units. More gives larger radii, of
            a smoothed model that is right less often.
        samples: Noisy images whose votes are counted.
        selection: Other noisy images, which only say whose votes are to be counted.
        alpha: Chance of a wrong statement about a case. Of a segmentation: about any pixel.
        tau: Of a segmentation: share of the votes that a pixel's class must exceed, in [0.5, 1).
            None: the smallest that reaches over the ball.
        correction: Of a segmentation: for many pixels at once, "holm" or "bonferroni".

    Source: Cohen, Rosenfeld and Kolter, ICML 2019, arXiv:1902.02918, theorem 1 and section 3.2.2
        (classification); Fischer, Baader and Vechev, ICML 2021, arXiv:2107.00228, section 5
        (segmentation). Deviations: tau follows the ball unless given; the class is compared with
        the truth here, so that a certified pixel is a right one.
    """

    sigma: float = 0.25
    samples: int = 1000
    selection: int = 100
    alpha: float = 0.001
    tau: float | None = None
    correction: Literal["holm", "bonferroni"] = "holm"

    statistical: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.sigma < np.inf:
            raise InputError(f"smoothing: sigma must be finite and above 0, got {self.sigma}")
        for name in ("samples", "selection"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(f"smoothing: {name} must be a whole number from 1, got {count!r}")
        if not 0 < self.alpha < 1:
            raise InputError(f"smoothing: alpha must lie between 0 and 1, got {self.alpha}")
        if self.tau is not None and not 0.5 <= self.tau < 1:
            raise InputError(f"smoothing: tau must be at least 0.5 and below 1, got {self.tau}")
        if self.correction not in ("holm", "bonferroni"):
            raise InputError(
                f"smoothing: correction must be holm or bonferroni, got {self.correction!r}"
            )

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier`.

        Raises:
            UnsupportedError: If the task is neither classification nor segmentation, the ball is
                l1, or the network is in training mode.
            CaseError: If an image or an answer is not finite, or a target no class of the model's.
        """
        _check(model, ball)
        judge = self._segmented if model.task.kind == "segmentation" else self._classified
        cases = []
        for index, needed in enumerate(_l2_radius(ball, batch)):
            one = batch[index]
            chosen, votes = self._vote(model, one, rng)
            cases.append(judge(one.target[0].to(chosen.device), chosen, votes, needed))
        return {
            name: torch.tensor([case[name] for case in cases], dtype=torch.float32)
            for name in cases[0]
        }

    def _vote(self, model: Model, one: Batch, rng: CaseRng) -> tuple[Tensor, Tensor]:
        """The leading class at each position, and how many of other samples agree."""
        first, second = (
            CaseRng(rng.seed, f"{rng.name}/{name}", one.case_ids)
            for name in ("selection", "samples")
        )
        chosen = most_common(model, one, self.sigma, self.selection, first)
        _check_target(one.target[0], chosen, len(model.task.classes))
        return chosen, agreeing(model, one, self.sigma, self.samples, second, chosen)

    def _classified(
        self, target: Tensor, chosen: Tensor, votes: Tensor, needed: float
    ) -> dict[str, float]:
        share = lower_limit(int(votes), self.samples, self.alpha)
        found, right = share > 0.5, bool(chosen == target)
        radius = self.sigma * float(stats.norm.ppf(share)) if found and right else 0.0
        certified, falsified = found and right and radius >= needed, found and not right
        return {
            "certified": float(certified),
            "falsified": float(falsified),
            "undecided": float(not (certified or falsified)),
            "abstained": float(not found),
            "radius": radius,
        }

    def _segmented(
        self, target: Tensor, chosen: Tensor, votes: Tensor, needed: float
    ) -> dict[str, float]:
        if self.tau is None:
            radius, tau = needed, float(stats.norm.cdf(needed / self.sigma))
        else:
            radius, tau = self.sigma * float(stats.norm.ppf(self.tau)), self.tau
        reject = holm if self.correction == "holm" else bonferroni
        p = p_values(votes.cpu().numpy().ravel(), self.samples, tau)
        found = reject(p, self.alpha)
        right = (chosen == target).cpu().numpy().ravel()
        certified = found & right & (radius >= needed)
        falsified = found & ~right
        return {
            "certified": float(certified.mean()),
            "falsified": float(falsified.mean()),
            "undecided": float((~certified & ~falsified).mean()),
            "abstained": float((~found).mean()),
            "radius": radius,
        }


def _check(model: Model, ball: Ball) -> None:
    if model.task.kind not in ("classification", "segmentation"):
        raise UnsupportedError(
            "smoothing: needs a task of classification or segmentation, got " + model.task.kind
        )
    if ball.norm == "l1":
        raise UnsupportedError(
            f"smoothing: Gaussian noise speaks of l2 balls, got {ball}; "
            "an l2 ball of the same radius holds it"
        )
    if isinstance(model, TorchModel) and any(part.training for part in model.network.modules()):
        raise UnsupportedError(
            "smoothing: the network is in training mode, where answers to noisy images depend on "
            "each other; call its eval()"
        )


def _l2_radius(ball: Ball, batch: Batch) -> list[float]:
    """Of the smallest l2 ball around each case's ball."""
    image = batch.image
    if not image.isfinite().all():
        raise CaseError("the image is not finite")
    radius: list[float] = ball.radius(image, batch.context).flatten().double().tolist()
    if ball.norm == "l2":
        return radius
    if ball.support is None:
        return [one * sqrt(image[0].numel()) for one in radius]
    if ball.support not in batch.context:
        raise InputError(f"smoothing: {ball} needs {ball.support!r} in the case's context")
    free = batch.context[ball.support].to(image.device).expand_as(image) != 0
    voxels = free.flatten(start_dim=1).sum(dim=1).tolist()
    return [one * sqrt(count) for one, count in zip(radius, voxels, strict=True)]


def _check_target(target: Tensor, chosen: Tensor, classes: int) -> None:
    if target.shape != chosen.shape:
        raise CaseError(f"the target must be {tuple(chosen.shape)}, got {tuple(target.shape)}")
    if not (target.min() >= 0 and target.max() < classes):
        raise CaseError(f"the target holds class {int(target.max())}, the model has {classes}")
